import io
import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import pyvips
import torch
from onnx import helper, save_model
from PIL import Image
from torch import nn

from gfnet_env import EarlyExitGFNet
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.export import export_int8, export_onnx, export_static, runner
from gfnet_env.export.runner import Runner, main, overview
from gfnet_env.features import LiveFeatures
from gfnet_env.images import ArrayImages, FolderImages, load_images
from gfnet_env.images.large import open_large
from gfnet_env.images.resize import resize
from gfnet_env.inference import learn_certainty
from gfnet_env.looks import ViewConfig
from gfnet_env.models import GlanceFocusNetwork, StaticConfig, StaticNetwork, TrainingData
from gfnet_env.policies import HeatPolicy, LearnedPolicy, RandomPolicy, RecurrentPolicy
from gfnet_env.rollout import glance


def learned(network, **options):
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), **options)
    nn.init.normal_(policy.actor[-1].weight, std=0.5)
    return policy


def untrained(**config):
    torch.manual_seed(0)
    config = {"encoder": "compact", "patch_size": 16, "num_classes": 10, **config}
    return GlanceFocusNetwork.build(**config).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from gfnet_env import pretrained

    network = pretrained("cluttered-digits").model
    gfnet = EarlyExitGFNet(network, learned(network), [0.9, 0.9, 0.8, 0])
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(gfnet, folder)
    return gfnet, folder


def pictures(images):
    return list(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """Padded overviews, bicubic, windows of several scales, and a cascade."""
    network = untrained(
        patch_size=32, aspect="pad", interpolation="bicubic", focus_steps=2, classifier="cascade"
    )
    gfnet = EarlyExitGFNet(network, learned(network, actions="zoom:max_scale=5"))
    folder = tmp_path_factory.mktemp("padded")
    export_onnx(gfnet, folder)
    return gfnet, folder


@pytest.fixture
def torch_resizes(monkeypatch):
    """The runner resizes with torch: Pillow rounds some pixels to the next level."""

    def resized(picture, shape, interpolation, box=None):
        top, left, bottom, right = box or (0, 0, *picture.shape[:2])
        picture = picture[top:bottom, left:right]
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
        view = ViewConfig(size=max(shape), interpolation=interpolation)
        return resize(pixels, shape, view)[0].permute(1, 2, 0).numpy()

    monkeypatch.setattr(runner, "_resized", resized)


def agree(found, expected):
    """The runner's predictions are the network's."""
    for name in ("classes", "exit_step", "multiply_adds"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    for name in ("confidence", "locations", "scales"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_runner_does_what_the_network_does(exported, digits, count):
    gfnet, folder = exported
    images = digits[:count]
    found = Runner(folder, threads=2).classify(pictures(images))
    agree(found, gfnet(images))
    if count == 40:
        assert len(np.unique(found.exit_step)) > 1


@pytest.mark.usefixtures("torch_resizes")
def test_policies_of_cells_are_exported(network, digits, tmp_path):
    gfnet = EarlyExitGFNet(network, learned(network, actions="grid:cells=4"), [0.9, 0.9, 0.9, 0])
    export_onnx(gfnet, tmp_path)
    found = Runner(tmp_path, threads=1).classify(pictures(digits[:20]))
    agree(found, gfnet(digits[:20]))


@pytest.mark.usefixtures("torch_resizes")
@pytest.mark.parametrize(
    "options",
    [
        {"actions": "continuous+stop"},
        {"actions": "zoom:max_scale=3+stop", "squash": "tanh"},
        {"actions": "grid:cells=2+stop", "revisit": False, "recurrent_size": 8},
    ],
)
def test_policies_that_stop_are_exported(network, digits, tmp_path, options):
    policy = learned(network, **options)
    if "grid" in options["actions"]:
        nn.init.normal_(policy.actor[-1].bias, std=0.5)
    else:
        # Half of the pictures are not looked at.
        with torch.no_grad():
            state = glance(LiveFeatures(network, digits), np.arange(len(digits)))
            stops = policy(policy.observation(state), None)[0][:, -1]
            shift = torch.atanh if policy.config["squash"] == "tanh" else torch.clone
            policy.actor[-1].bias[-1] += shift(torch.tensor(0.5)) - shift(stops.quantile(0.5))
    gfnet = EarlyExitGFNet(network, policy, [0.99, 0.99, 0.99, 0])
    export_onnx(gfnet, tmp_path)
    found = Runner(tmp_path, threads=1).classify(pictures(digits[:]))
    agree(found, gfnet(digits[:]))
    stopped = (found.exit_step < 3) & (found.confidence < 0.99)
    assert 0 < stopped.sum() < len(stopped)
    scales = found.scales[~np.isnan(found.scales)]
    assert (len(np.unique(scales)) > 1) == ("zoom" in options["actions"])


class FarPolicy(nn.Module):
    """Looks beyond the edges."""

    def forward(self, observation, memory):
        location = observation["location"]
        return torch.full_like(location, 1.5) - 3 * (location > 0), None


@pytest.mark.usefixtures("torch_resizes")
def test_the_runner_looks_no_further_than_the_edges(network, digits, tmp_path):
    gfnet = EarlyExitGFNet(network, FarPolicy())
    export_onnx(gfnet, tmp_path)
    found = Runner(tmp_path, threads=1).classify(pictures(digits[:4]))
    agree(found, gfnet(digits[:4]))
    assert np.abs(found.locations).max() == 1


def test_the_policy_of_the_authors_is_exported(network, digits, tmp_path):
    torch.manual_seed(1)
    gfnet = EarlyExitGFNet(network, RecurrentPolicy(network.feature_shape, 16))
    export_onnx(gfnet, tmp_path)
    agree(Runner(tmp_path, threads=1).classify(pictures(digits[:8])), gfnet(digits[:8]))


SIZES = ((128, 128), (60, 200), (200, 60), (33, 170), (32, 32))


def noise(size):
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.usefixtures("torch_resizes")
@pytest.mark.parametrize("kind", ["exported", "padded"])
def test_pictures_may_differ_in_size(kind, request):
    gfnet, folder = request.getfixturevalue(kind)
    images = [noise(size) for size in SIZES]
    found = Runner(folder).classify([pictures(image)[0] for image in images])
    for row, image in enumerate(images):
        one = runner.Prediction(*(part[[row]] for part in vars(found).values()))
        agree(one, gfnet(image))


@pytest.mark.parametrize("kind", ["exported", "padded"])
def test_resizing_with_pillow_hardly_changes_the_answer(kind, request):
    gfnet, folder = request.getfixturevalue(kind)
    images = [noise(size) for size in SIZES]
    found = Runner(folder).classify([pictures(image)[0] for image in images])
    for row, image in enumerate(images):
        expected = gfnet(image)
        # Two classes of the untrained network are as good as equally likely.
        if kind == "exported":
            assert found.classes[row] == expected.classes[0]
        assert found.confidence[row] == pytest.approx(float(expected.confidence[0]), abs=1e-3)


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pillow_shows_what_image_sets_show(aspect, interpolation):
    view = ViewConfig(size=32, aspect=aspect, interpolation=interpolation)
    for size in SIZES:
        image = noise(size)
        expected = ArrayImages(image).overview(0, view).permute(0, 2, 3, 1).numpy()
        found = overview(pictures(image), 32, interpolation, aspect)
        # Noise, the worst there is: the last bits of their integer arithmetic differ.
        apart = np.abs(found.astype(int) - expected)
        assert apart.max() <= 2
        assert apart.mean() < 0.25


def test_a_step_is_one_call_with_the_pictures_that_are_still_unsure(exported, digits, monkeypatch):
    calls = []
    run = onnxruntime.InferenceSession.run

    def counted(session, names, given):
        calls.append(len(given["pixels"]))
        return run(session, names, given)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", counted)
    found = Runner(exported[1], threads=1).classify(pictures(digits[:]))
    assert calls == [(found.exit_step >= step).sum() for step in range(found.exit_step.max() + 1)]
    assert len(calls) > 1


def test_the_folder_needs_nothing_of_this_library(exported, digits, tmp_path):
    gfnet, folder = exported
    Image.fromarray(pictures(digits[:1])[0]).save(tmp_path / "digit.png")
    # As on a device: what the folder must not need cannot be imported.
    (tmp_path / "run.py").write_text(
        "import runpy, sys\n"
        "for name in ('torch', 'torchvision', 'gfnet_env', 'scipy', 'onnx', 'timm'):\n"
        "    sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(folder)!r})\n"
        f"sys.argv = ['classify.py', {str(tmp_path / 'digit.png')!r}]\n"
        f"runpy.run_path({str(folder / 'classify.py')!r}, run_name='__main__')\n"
    )
    command = [sys.executable, str(tmp_path / "run.py")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = gfnet(digits[:1])
    assert f"digit.png: {expected.classes[0]} {expected.confidence[0]:.1%}" in answer
    assert f"exit at step {expected.exit_step[0]}, " in answer


def test_the_folder_reads_large_pictures_from_disk(exported, tmp_path):
    gfnet, folder = exported
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    picture = pyvips.Image.new_from_array(noise).copy(interpretation="srgb").replicate(10, 10)
    options = {"tile": True, "pyramid": True, "compression": "deflate", "predictor": "none"}
    picture.tiffsave(str(tmp_path / "large.tif"), **options)
    (tmp_path / "run.py").write_text(
        "import runpy, sys\n"
        "for name in ('torch', 'gfnet_env', 'scipy', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(folder)!r})\n"
        f"sys.argv = ['classify.py', {str(tmp_path / 'large.tif')!r}]\n"
        f"runpy.run_path({str(folder / 'classify.py')!r}, run_name='__main__')\n"
    )
    command = [sys.executable, str(tmp_path / "run.py")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = gfnet(FolderImages([tmp_path / "large.tif"], [0], ["thing"]))
    assert f"large.tif: {expected.classes[0]} " in answer
    assert f"exit at step {expected.exit_step[0]}, " in answer
    found = Runner(folder).classify([open_large(tmp_path / "large.tif")])
    assert found.confidence[0] == pytest.approx(float(expected.confidence[0]), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "there is no picture missing.png"),
        (["text.png"], "cannot decode text.png"),
        (["small.png", "--image-size", "0"], "small.png: a picture of 8×8 is smaller than the"),
        (["."], ". is a folder; give the pictures in it"),
        (["--threads", "0", "small.png"], "threads must be a whole number from 1 to 256, not 0"),
        (["--threads", "100000", "small.png"], "threads must be .* from 1 to 256, not 100000"),
        (["--folder", "", "small.png"], "there is no folder ''; give one that gfnet export wrote"),
        (["--folder", "~nobody-of-this-name", "small.png"], "there is no folder '~nobody-of-this"),
        (["--folder", "x" * 5000, "small.png"], "there is no folder 'xxx.*x'; give"),
        (["--folder", "small.png", "small.png"], "there is no folder 'small.png'; give"),
        (
            ["--providers", "CPUExecutionProvider,Abacus", "small.png"],
            "providers must be .*CPUExecutionProvider; not .'CPUExecutionProvider', 'Abacus'.",
        ),
        (
            ["--thresholds", "0.5,a", "small.png"],
            "thresholds must be numbers .* '0.5,a'",
        ),
        (["--thresholds", "0.5", "small.png"], r"4 thresholds are needed, .*, not \(0.5,\)"),
        (["--thresholds", "nan,0,0,0", "small.png"], "4 thresholds .* finite and .*, not .nan"),
        (["--image-size", "-5", "small.png"], "image_size must be 1 to 30,000 pixels, not -5"),
        (["--image-size", "30001", "small.png"], "image_size must be .* pixels, not 30001"),
    ],
)
def test_the_runner_says_what_is_wrong(exported, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    with pytest.raises(SystemExit, match=f"error: {message}"):
        runner.main(["--folder", str(exported[1]), *arguments])


def test_a_picture_that_cannot_be_read_costs_no_other_its_answer(
    exported, digits, tmp_path, monkeypatch, capsys
):
    good = tmp_path / "good.png"
    Image.fromarray(pictures(digits[:1])[0]).save(good)
    (tmp_path / "bad.png").write_text("no picture")
    # A terminal without the letters of a name.
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    names = property(lambda _: ["ä"] * 10, lambda *_: None)
    monkeypatch.setattr(Runner, "class_names", names, raising=False)
    paths = [str(tmp_path / "bad.png"), str(good)]
    with pytest.raises(SystemExit, match="error: cannot decode .*bad.png"):
        runner.main(["--folder", str(exported[1]), *paths])
    terminal.flush()
    assert terminal.buffer.getvalue().startswith(f"{good}: ? ".encode())


def test_a_folder_that_is_not_whole_is_named(exported, tmp_path):
    (tmp_path / "gfnet.json").write_text((exported[1] / "gfnet.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"no glance\.onnx .*copy the whole folder"):
        Runner(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gfnet.json", lambda _: b"{", r"gfnet\.json is damaged .*export the network again"),
        ("gfnet.json", lambda _: b"[1]", r"gfnet\.json is damaged"),
        ("gfnet.json", lambda _: b"[" * 100_000, r"gfnet\.json is damaged"),
        ("gfnet.json", lambda _: b"{}", "exported by another version of gfnet-env; export the"),
        (
            "gfnet.json",
            lambda content: content.replace(b'"format": 3', b'"format": 2'),
            "exported by another version of gfnet-env; export the network again",
        ),
        (
            "gfnet.json",
            lambda content: content.replace(b'"patch_size": 32', b'"patch_size": 16'),
            r"gfnet\.json is damaged, or was changed after it was exported; export the network",
        ),
        (
            "focus.onnx",
            lambda content: content[:-1] + b"\0",
            r"focus\.onnx is damaged or belongs to another export than the gfnet\.json beside it",
        ),
    ],
)
def test_a_damaged_folder_is_named(exported, tmp_path, name, change, message):
    shutil.copytree(exported[1], tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        Runner(tmp_path / "copy")


def test_a_failed_export_leaves_what_was_there(exported, network, tmp_path):
    shutil.copytree(exported[1], tmp_path / "copy")
    with pytest.raises(ValueError, match=r"the policy cannot be exported: .*without branches"):
        export_onnx(EarlyExitGFNet(network, Branching()), tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(exported[1])


def test_a_later_export_replaces_an_earlier_one(exported, digits, tmp_path):
    gfnet, folder = exported
    export_onnx(EarlyExitGFNet(gfnet.model, FarPolicy()), tmp_path)
    (tmp_path / "note.txt").write_text("of the user's own")
    export_onnx(gfnet, tmp_path)
    agree(Runner(tmp_path).classify(pictures(digits[:8])), gfnet(digits[:8]))
    assert contents(tmp_path).keys() - contents(folder).keys() == {"note.txt"}


def test_the_runner_says_on_what_it_runs(exported, digits, tmp_path, capsys):
    Image.fromarray(pictures(digits[:1])[0]).save(tmp_path / "digit.png")
    chosen = ["--providers", "CPUExecutionProvider"]
    main(["--folder", str(exported[1]), *chosen, str(tmp_path / "digit.png")])
    assert capsys.readouterr().err == "onnxruntime runs it on CPUExecutionProvider\n"
    for wrong in ([], "CPUExecutionProvider", None, [("CPUExecutionProvider", {})]):
        with pytest.raises(ValueError, match=r"providers must be a list of what .*; not "):
            Runner(exported[1], providers=wrong)


def test_what_a_kill_kept_from_its_place_is_read(exported, tmp_path):
    shutil.copytree(exported[1], tmp_path / "copy")
    (tmp_path / "copy" / ".committed").mkdir()
    export_onnx(EarlyExitGFNet(exported[0].model, exported[0].policy, [0.5, 0.5, 0.5, 0]), tmp_path)
    (tmp_path / "gfnet.json").rename(tmp_path / "copy" / ".committed" / "gfnet.json")
    assert Runner(tmp_path / "copy").thresholds == (0.5, 0.5, 0.5, 0)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_int8_answers_nearly_as_floats_do(exported, tmp_path):
    gfnet, folder = exported
    val = load_images("cluttered-digits:scenes=50", "val")
    test = load_images("cluttered-digits:scenes=300", "test")
    found = export_int8(gfnet, tmp_path, val, test)
    assert abs(found["int8"] - found["float32"]) <= 0.02
    assert json.loads((tmp_path / "gfnet.json").read_text())["accuracy"] == found
    assert (tmp_path / "focus.onnx").stat().st_size < 0.8 * (folder / "focus.onnx").stat().st_size
    floats, integers = (Runner(each).classify(pictures(test[:])) for each in (folder, tmp_path))
    assert (floats.classes == test.labels.numpy()).mean() == pytest.approx(found["float32"])
    # They are no floats.
    assert (floats.confidence != integers.confidence).any()
    same = floats.exit_step == integers.exit_step
    assert same.mean() > 0.9
    apart = np.abs(floats.confidence - integers.confidence)[same]
    assert np.median(apart) < 0.02


def test_int8_needs_pictures_that_are_looked_at(exported, digits, tmp_path):
    gfnet = EarlyExitGFNet(exported[0].model, exported[0].policy, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="no calibration picture needs a focus at these"):
        export_int8(gfnet, tmp_path / "out", digits, digits)
    assert not (tmp_path / "out").exists()


def test_files_bytes_and_arrays_are_classified_alike(exported, digits, tmp_path):
    gfnet, folder = exported
    path = tmp_path / "digit.png"
    (array,) = pictures(digits[:1])
    Image.fromarray(array).save(path)
    found = Runner(folder).classify([array, path, str(path), path.read_bytes()])
    for row in found.probabilities:
        np.testing.assert_array_equal(row, found.probabilities[0])
    expected = gfnet(digits[:1]).probabilities
    np.testing.assert_allclose(found.probabilities[:1], expected, atol=1e-4)
    with pytest.raises(ValueError, match="cannot decode a picture of 3 bytes"):
        Runner(folder).classify([b"???"])
    with pytest.raises(FileNotFoundError, match="there is no picture .*missing"):
        Runner(folder).classify([tmp_path / "missing.png"])


def test_wrong_pictures_are_refused(exported):
    device, right = Runner(exported[1]), np.zeros((40, 40, 3), np.uint8)
    for wrong in (
        np.zeros((40, 40)),
        np.zeros((40, 40, 4), np.uint8),
        right * np.nan,
        None,
    ):
        with pytest.raises(ValueError, match=r"pictures must be \(H, W, 3\) uint8, not "):
            device.classify([right, wrong])
    with pytest.raises(TypeError, match="pictures must be a list, not NoneType"):
        device.classify(None)


@pytest.mark.parametrize("wrong", [None, 0.5, "0000", ["0"] * 4, [[0]] * 4, [10**400] * 4])
def test_wrong_thresholds_are_refused(exported, wrong):
    device = Runner(exported[1])
    with pytest.raises(ValueError, match="4 thresholds are needed, one per step"):
        device.thresholds = wrong
    assert device.thresholds == exported[0].thresholds


def test_a_graph_that_onnxruntime_cannot_read_is_named(tmp_path):
    (tmp_path / "static.onnx").write_text("no graph")
    with pytest.raises(ValueError, match=r"cannot read the graph .*static\.onnx"):
        runner.open_session(tmp_path / "static.onnx")


def test_a_graph_may_lie_where_names_are_no_text(tmp_path):
    sides = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "same", sides[:1], sides[1:])
    opset = helper.make_opsetid("", 17)
    path = tmp_path / "\udcff.onnx"
    save_model(helper.make_model(graph, ir_version=8, opset_imports=[opset]), tmp_path / "same")
    (tmp_path / "same").rename(path)
    (found,) = runner.open_session(path).run(None, {"x": np.ones(1, np.float32)})
    assert found == 1


class Growing(nn.Module):
    def forward(self, observation, memory):
        looked = observation["location"][:, None]
        memory = looked if memory is None else torch.cat([memory, looked], dim=1)
        return torch.zeros_like(observation["location"]), memory


class Branching(nn.Module):
    def forward(self, observation, memory):
        if observation["memory"].sum() > 0:
            return observation["location"], None
        return -observation["location"], None


class Knowing(nn.Module):
    def start(self, context):
        return context.labels

    def forward(self, observation, memory):
        return observation["location"], memory


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            RandomPolicy(),
            "a policy of type RandomPolicy cannot be exported: it is not a torch module",
        ),
        (Growing(), "the policy Growing cannot be exported: its memory changes its shape"),
        (Knowing(), "the policy Knowing cannot be exported: its memory begins with more"),
    ],
)
def test_policies_that_cannot_be_exported_are_named(network, tmp_path, policy, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(EarlyExitGFNet(network, policy), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_views_that_pillow_cannot_make_are_refused(tmp_path):
    for wrong in ({"antialias": False}, {"align_corners": True}):
        network = untrained(**wrong)
        with pytest.raises(ValueError, match="does not antialias its views cannot be exported"):
            export_onnx(EarlyExitGFNet(network, learned(network)), tmp_path)


@pytest.mark.usefixtures("torch_resizes")
def test_a_cascade_is_exported_with_the_encoders_own_answer(padded, digits):
    gfnet, folder = padded
    first, second, _ = gfnet.anytime(digits[:])
    # Half of the images leave at the glance, and half of the others one step later.
    medians = [float(np.median(step.confidence)) for step in (first, second)]
    early, device = EarlyExitGFNet(gfnet.model, gfnet.policy), Runner(folder, threads=2)
    early.set_thresholds([*medians, 0])
    device.thresholds = early.thresholds
    found = device.classify(pictures(digits[:]))
    assert set(found.exit_step) == {0, 1, 2}
    agree(found, early(digits[:]))


def test_the_packages_that_are_missing_are_named(network, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx and .*onnxscript must be .*gfnet-env\[onnx\]"):
        export_onnx(EarlyExitGFNet(network, learned(network)), tmp_path)


def test_static_networks_are_exported_too(tmp_path, digits):
    network = StaticNetwork(StaticConfig(encoder="compact", resolution=48, num_classes=10)).eval()
    export_static(network, tmp_path / "static.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "static.onnx"))
    with torch.no_grad():
        pixels = digits.overview(range(5), network.view)
        expected = network(pixels)
    (found,) = session.run(None, {"pixels": np.stack(pictures(pixels))})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_runner_cuts_pictures_as_in_training(network, digits, tmp_path, capsys):
    gfnet = EarlyExitGFNet(network, learned(network))
    network.trained_on = TrainingData(image_size=112, crop=0.875)
    export_onnx(gfnet, tmp_path / "exported")
    Image.fromarray(pictures(digits[:1])[0]).save(tmp_path / "digit.png")
    main(["--folder", str(tmp_path / "exported"), str(tmp_path / "digit.png")])
    expected = gfnet(digits[:1][..., 8:120, 8:120])
    said = f"{expected.classes[0]} {expected.confidence[0]:.1%}"
    assert said in capsys.readouterr().out


def test_the_json_says_all_the_runner_knows(exported):
    gfnet, folder = exported
    saved = json.loads((folder / "gfnet.json").read_text())
    assert saved["thresholds"] == list(gfnet.thresholds)
    assert saved["class_names"] == list("0123456789")
    assert (saved["patch_size"], saved["focus_steps"]) == (32, 3)
    assert (saved["fit"], saved["aspect"]) == (gfnet.model.trained_on.fit, "stretch")


@pytest.mark.usefixtures("torch_resizes")
def test_tokens_a_where_map_attention_over_views_and_a_learned_stop_are_exported(digits, tmp_path):
    network = untrained(
        encoder="vit_tiny_patch16_224:depth=1",
        patch_size=32,
        classifier="attention:hidden_size=8",
        glance_size=40,
        glance_encoder="compact:widths=[4,8],strides=[2,2]",
        where_scales=(1.0, 2.0),
    )
    network.set_temperatures([2.0, 0.5])
    gfnet = EarlyExitGFNet(network, HeatPolicy())
    learn_certainty(gfnet, digits)
    # Between two pictures, where they differ the most: the network is not trained.
    found = evaluate_policy(network, gfnet.policy, digits, signal=gfnet.certainty).signal
    sure = np.sort(found[:, 0])[5:-5]
    widest = np.diff(sure).argmax()
    gfnet.set_thresholds([float(sure[widest : widest + 2].mean()), 2, 2, 0])
    export_onnx(gfnet, tmp_path)
    found = Runner(tmp_path, threads=1).classify(pictures(digits[:]))
    agree(found, gfnet(digits[:]))
    assert len(np.unique(found.exit_step)) > 1
