import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from gfnet_env import EarlyExitGFNet
from gfnet_env.export import export_onnx, export_static
from gfnet_env.export.runner import Runner, main
from gfnet_env.perception import GlanceFocusNetwork, StaticConfig, StaticNetwork
from gfnet_env.policies import LearnedPolicy, RandomPolicy


def learned(network):
    torch.manual_seed(1)
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (16,))
    nn.init.normal_(policy.actor[-1].weight, std=0.5)
    return policy


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from gfnet_env.pretrained import packaged_network

    network = packaged_network()
    gfnet = EarlyExitGFNet(network, learned(network), [0.9, 0.9, 0.8, 0])
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(gfnet, folder)
    return gfnet, folder


def pictures(images):
    return list(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_runner_does_what_the_network_does(exported, digits, count):
    gfnet, folder = exported
    images = digits[:count]
    expected = gfnet(images)
    found = Runner(folder, threads=2).classify(pictures(images))
    assert found.classes.tolist() == expected.classes.tolist()
    assert found.exit_step.tolist() == expected.exit_step.tolist()
    assert found.multiply_adds.tolist() == expected.multiply_adds.tolist()
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    np.testing.assert_allclose(found.locations, expected.locations, atol=1e-4)
    if count == 40:
        assert len(np.unique(found.exit_step)) > 1


@pytest.mark.parametrize("output", ["tanh", "grid"])
def test_policies_of_other_outputs_are_exported(network, digits, tmp_path, output):
    torch.manual_seed(1)
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (16,), output=output, grid=4)
    nn.init.normal_(policy.actor[-1].weight, std=0.5)
    gfnet = EarlyExitGFNet(network, policy)
    export_onnx(gfnet, tmp_path)
    found = Runner(tmp_path, threads=1).classify(pictures(digits[:8]))
    np.testing.assert_allclose(found.locations, gfnet(digits[:8]).locations, atol=1e-4)


def test_the_batch_shrinks(exported, digits, monkeypatch):
    runner = Runner(exported[1], threads=2)
    seen = []
    run = runner._run
    monkeypatch.setattr(
        runner,
        "_run",
        lambda graph, **inputs: (
            seen.append((graph, len(next(iter(inputs.values()))))) or run(graph, **inputs)
        ),
    )
    found = runner.classify(pictures(digits[:]))
    assert sum(count for graph, count in seen if graph == "focus") == found.exit_step.sum()
    assert [count for graph, count in seen if graph == "glance"] == [40]


def test_pictures_may_differ_in_size(exported):
    gfnet, folder = exported
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)
        for size in ((128, 128), (60, 200), (32, 32))
    ]
    found = Runner(folder).classify([pictures(image)[0] for image in images])
    for row, image in enumerate(images):
        expected = gfnet(image)
        assert found.classes[row] == expected.classes[0]
        assert found.confidence[row] == pytest.approx(float(expected.confidence[0]), abs=1e-3)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "there is no picture missing.png"),
        (["text.png"], "cannot decode text.png"),
        (["small.png", "--image-size", "0"], "a picture of 8×8 is smaller than the patch of 32×32"),
        (["--thresholds", "0.5", "small.png"], "4 thresholds are needed, one per step, not 1"),
        (["--thresholds", "nan,0,0,0", "small.png"], "thresholds must be finite"),
        (["--image-size", "-5", "small.png"], "image_size must be at least 1 pixel, not -5"),
    ],
)
def test_the_runner_says_what_is_wrong(exported, tmp_path, monkeypatch, arguments, message):
    from gfnet_env.export import runner

    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    with pytest.raises(SystemExit, match=f"error: {message}"):
        runner.main(["--folder", str(exported[1]), *arguments])


def test_a_folder_that_is_not_whole_is_named(exported, tmp_path):
    (tmp_path / "gfnet.json").write_text((exported[1] / "gfnet.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"no glance\.onnx .*copy the whole folder"):
        Runner(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gfnet.json", "{", r"gfnet\.json is damaged"),
        ("gfnet.json", "{}", r"gfnet\.json is damaged .*patch_size"),
        ("policy.onnx", "no graph", r"cannot read the graph .*policy\.onnx"),
    ],
)
def test_a_damaged_folder_is_named(exported, tmp_path, name, content, message):
    shutil.copytree(exported[1], tmp_path / "copy")
    (tmp_path / "copy" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        Runner(tmp_path / "copy")


def test_a_failed_export_leaves_what_was_there(exported, digits, tmp_path):
    folder = exported[1]
    shutil.copytree(folder, tmp_path / "copy")
    other = GlanceFocusNetwork.build(encoder="compact", patch_size=16, num_classes=2).eval()
    with pytest.raises(ValueError, match="the policy cannot be exported"):
        export_onnx(EarlyExitGFNet(other, Branching()), tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == before


def test_wrong_pictures_are_refused(exported):
    runner = Runner(exported[1])
    for wrong in (np.zeros((40, 40)), np.zeros((40, 40, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"pictures must be \(H, W, 3\) uint8"):
            runner.classify([wrong])


class Recurrent(nn.Module):
    def forward(self, observation, state):
        looks = torch.zeros_like(observation["step"]) if state is None else state
        return torch.zeros_like(observation["location"]), looks + 1


class Branching(nn.Module):
    def forward(self, observation, state):
        if observation["memory"].sum() > 0:
            return observation["location"], None
        return -observation["location"], None


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RandomPolicy(), "a policy of type RandomPolicy cannot be exported: it is no torch module"),
        (Recurrent(), "the policy Recurrent cannot be exported: it keeps a state"),
        (Branching(), "the policy cannot be exported: .*without branches"),
    ],
)
def test_policies_that_cannot_be_exported_are_named(network, tmp_path, policy, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(EarlyExitGFNet(network, policy), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_glance_that_pillow_cannot_make_is_refused(tmp_path):
    for wrong in ({"antialias": False}, {"align_corners": True}):
        network = GlanceFocusNetwork.build(encoder="compact", patch_size=16, num_classes=2, **wrong)
        with pytest.raises(ValueError, match="does not antialias its glance cannot be exported"):
            export_onnx(EarlyExitGFNet(network, learned(network)), tmp_path)


def test_a_cascade_is_exported_with_the_encoders_own_answer(tmp_path, digits):
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=10, focus_steps=2, classifier="cascade"
    ).eval()
    gfnet = EarlyExitGFNet(network, learned(network))
    glance, focus, _ = gfnet.anytime(digits[:])
    # Half of the images leave at the glance, and half of the others one step later.
    medians = [float(np.median(step.confidence)) for step in (glance, focus)]
    gfnet.set_thresholds([*medians, 0])
    export_onnx(gfnet, tmp_path)
    expected = gfnet(digits[:])
    found = Runner(tmp_path, threads=2).classify(pictures(digits[:]))
    assert set(found.exit_step) == {0, 1, 2}
    assert found.exit_step.tolist() == expected.exit_step.tolist()
    assert found.classes.tolist() == expected.classes.tolist()
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)


def test_the_packages_that_are_missing_are_named(network, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx and .*onnxscript must be .*gfnet-env\[onnx\]"):
        export_onnx(EarlyExitGFNet(network, learned(network)), tmp_path)


def test_static_networks_are_exported_too(tmp_path, digits):
    network = StaticNetwork(StaticConfig(encoder="compact", resolution=48, num_classes=10)).eval()
    export_static(network, tmp_path / "static.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "static.onnx"))
    with torch.no_grad():
        pixels = network.scale(digits[:5])
        expected = network(digits[:5])
    (found,) = session.run(None, {"pixels": np.stack(pictures(pixels))})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_runner_cuts_pictures_as_in_training(network, digits, tmp_path, capsys):
    gfnet = EarlyExitGFNet(network, learned(network))
    network.config.metadata.update(image_size=112, crop=0.875)
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
