import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.benchmarks import ComparisonConfig, compare_policies
from gfnet_env.benchmarks.policies import compare_records, some_of
from gfnet_env.benchmarks.results import PolicyComparison
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.images import ArrayImages, DatasetImages, load_images, open_folder
from gfnet_env.policies import HeatPolicy, LearnedPolicy, RandomPolicy, TargetPolicy

FILES = ("results.json", "table.csv", "accuracy.png", "trajectories.png", "config.json")


@pytest.fixture
def run(network, tmp_path):
    torch.manual_seed(0)
    policy = LearnedPolicy.for_model(network, (8,))
    EarlyExitGFNet(network, policy).save(tmp_path / "run")
    return tmp_path / "run"


def record(correct, indices=None):
    """Of images that are right or not at each step, and as confident of it."""
    correct = np.array(correct, dtype=bool)
    confidence = correct.astype(np.float32)
    scales = np.ones((len(correct), correct.shape[1] - 1), dtype=np.float32)
    locations = np.zeros((*scales.shape, 2), dtype=np.float32)
    indices = np.arange(len(correct)) if indices is None else np.array(indices)
    looks = np.full(len(correct), correct.shape[1] - 1)
    return Record(indices, correct, confidence, confidence, locations, scales, looks, confidence)


def test_some_are_of_all_classes():
    labels = np.arange(10).repeat(50)
    images = ArrayImages(np.zeros((500, 3, 8, 8), dtype=np.uint8), labels)
    chosen = some_of(images, 100)
    assert len(set(chosen.tolist())) == 100
    assert set(labels[chosen]) == set(range(10))
    assert some_of(images, 900).tolist() == list(range(500))


def test_gains_and_differences_by_hand():
    def repeated(rows):
        return record(rows * 20)

    some = [index + 4 * block for block in range(20) for index in (1, 0)]
    records = {
        "random": repeated([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]),
        "learned": repeated([[0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1]]),
        "target": repeated([[0, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]]),
        "oracle": record([[0, 1, 1], [0, 1, 0]] * 20, some),
    }
    found = compare_records(records)
    assert found["learned"].accuracy == (0.25, 0.5, 1)
    assert found["learned"].label_confidence == (0.25, 0.5, 1)
    assert found["learned"].share_of_gain == (0.5, 1)
    assert found["learned"].looks == 2
    assert found["random"].share_of_gain == (0, pytest.approx(1 / 3, abs=1e-6))
    assert found["target"].share_of_gain == (1, 1)
    # On the images that both were run on.
    assert found["oracle"].share_of_gain == (1, 0.5)
    assert found["oracle"].over_random.difference == 0
    assert found["learned"].over_random.difference == 0.5
    low, high = found["learned"].over_random.interval
    assert 0 <= low < 0.5 < high <= 1
    assert found["random"].over_random is None
    for policy in found.values():
        for value, (low, high) in zip(policy.accuracy, policy.accuracy_interval, strict=True):
            assert low <= value <= high
    without = compare_records({name: records[name] for name in ("learned", "oracle")})
    assert without["learned"].share_of_gain == (0.5, 2)
    assert without["learned"].over_random is None
    assert compare_records({"learned": records["learned"]})["learned"].share_of_gain is None


@pytest.mark.parametrize(
    "correct",
    [
        [[1, 1], [0, 0]] * 20,
        [[1, 0], [0, 0]] * 20,
        # A gain of one image in forty, which another draw of images would not have.
        [[1, 1], [0, 0]] * 19 + [[1, 1], [0, 1]],
    ],
)
def test_no_share_is_said_of_a_gain_that_is_nothing(correct):
    assert compare_records({"target": record(correct)})["target"].share_of_gain == (None,)


def test_all_policies_are_compared_and_written(run, network, digits, capsys):
    results = compare_policies(ComparisonConfig(run=run, oracle_images=3, sheet_images=2), digits)
    # A row of other images than the rest is marked.
    assert "(3 images)" in capsys.readouterr().out
    out = run / "policies"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    saved = json.loads((out / "results.json").read_text())
    assert PolicyComparison.from_json(saved) == results
    policies = results.policies
    assert list(policies) == [
        *("random", "center", "center-then-corners", "grid", "gaussian", "saliency"),
        *("learned", "target", "oracle"),
    ]
    assert results.reference == "target"
    assert results.objects == "boxes"
    expected = evaluate_policy(network, TargetPolicy(), digits)
    assert policies["target"].accuracy == pytest.approx(expected.accuracy, abs=1e-6)
    assert policies["target"].centred == policies["target"].covered == (1, 1, 1)
    assert policies["oracle"].images == policies["oracle"].object_images == 3
    for policy in policies.values():
        assert len(policy.accuracy) == 4
        assert len(policy.centred) == 3
        assert list(policy.covered) == sorted(policy.covered)

    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 4
    for row in rows:
        policy, step = policies[row["policy"]], int(row["step"])
        assert float(row["accuracy"]) == policy.accuracy[step]
        bounds = [float(row["label_confidence_low"]), float(row["label_confidence_high"])]
        assert tuple(bounds) == policy.label_confidence_interval[step]
        for key in ("share_of_gain", "centred", "covered"):
            assert row[key] == ("" if step == 0 else str(getattr(policy, key)[step - 1]))
    with Image.open(out / "trajectories.png") as sheet:
        assert sheet.height > sheet.width
    with pytest.raises(FileExistsError, match="already exists"):
        compare_policies(ComparisonConfig(run=run), digits)


def test_without_boxes_the_oracle_is_the_measure(run, digits):
    images = ArrayImages(digits[:8], digits.labels[:8])
    names = ("learned", "oracle")
    config = ComparisonConfig(run=run, oracle_images=2, policies=names, sheet_images=1)
    results = compare_policies(config, images)
    assert list(results.policies) == list(names)
    assert results.reference == "oracle"
    assert results.objects is None
    assert results.policies["learned"].centred is None
    rest = ComparisonConfig(run=run, oracle_images=0, out=run / "rest", sheet_images=1)
    assert {"target", "oracle"}.isdisjoint(compare_policies(rest, images).policies)


def test_masks_beside_pictures_say_where_the_object_is(run, digits, tmp_path):
    scenes = load_images("cluttered-digits:scenes=10", "test")
    boxes = scenes.boxes.long().tolist()
    for split in ("train", "test"):
        for label in range(10):
            path = tmp_path / "images" / split / str(label) / "0.png"
            mask = tmp_path / "masks" / split / str(label) / "0.png"
            for file in (path, mask):
                file.parent.mkdir(parents=True)
            Image.fromarray(scenes[[label]][0].permute(1, 2, 0).numpy()).save(path)
            marked = np.zeros((128, 128), dtype=np.uint8)
            top, left, bottom, right = boxes[label]
            marked[top:bottom, left:right] = 1
            Image.fromarray(marked).save(mask)
    pictures = open_folder(tmp_path / "images", "test")
    pictures.class_names = None
    names = ("center", "grid")
    by_masks, by_boxes = (
        ComparisonConfig(run=run, policies=names, sheet_images=1, out=tmp_path / out, masks=masks)
        for out, masks in (("one", tmp_path / "masks"), ("two", None))
    )
    found = compare_policies(by_masks, pictures)
    expected = compare_policies(by_boxes, scenes)
    assert (found.objects, expected.objects) == ("masks", "boxes")
    for name in names:
        for key in ("centred", "covered"):
            assert getattr(found.policies[name], key) == getattr(expected.policies[name], key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ("random", "psychic")}, "unknown policy 'psychic'"),
        ({"policies": ("random", "random")}, "named twice"),
        ({"policies": ("oracle",), "oracle_images": 0}, "'oracle' needs oracle_images above 0"),
        ({"policies": ("target",)}, "'target' needs images with boxes"),
        ({"masks": "nowhere"}, "ArrayImages has none; give the images as folder:PATH"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(run, digits, change, message):
    images = ArrayImages(digits[:8], digits.labels[:8])
    with pytest.raises(ValueError, match=message):
        compare_policies(ComparisonConfig(run=run, **change), images)
    assert not (run / "policies").exists()


@pytest.mark.parametrize("change", [{"oracle_images": -1}, {"sheet_images": 0}])
def test_wrong_settings_are_named(run, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ComparisonConfig(run=run, **change)


def test_policies_that_stop_and_zoom_at_pictures_of_any_size(network, tmp_path):
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), actions="zoom:max_scale=3+stop")
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5)
    policy.actor[-1].bias.data[-1] = 0.4
    EarlyExitGFNet(network, policy).save(tmp_path / "run")
    rng = np.random.default_rng(0)
    pictures = [
        (rng.integers(0, 256, (3, 40 + 20 * number, 150), np.uint8), number) for number in range(8)
    ]
    names = ("random:max_scale=3", "learned")
    config = ComparisonConfig(run=tmp_path / "run", policies=names, sheet_images=8)
    results = compare_policies(config, DatasetImages(pictures))
    assert results.policies["random:max_scale=3"].looks == 3
    assert 0 < results.policies["learned"].looks < 3
    assert (tmp_path / "run" / "policies" / "trajectories.png").is_file()


def test_networks_with_a_where_map_are_compared_with_heat_and_scan(tmp_path, digits):
    torch.manual_seed(0)
    mapped = GlanceFocusNetwork.build(
        encoder="compact",
        patch_size=32,
        num_classes=10,
        focus_steps=2,
        classifier="evidence",
        where_scales=(1.0,),
        class_names=digits.class_names,
    ).eval()
    for policy, expected in (
        (RandomPolicy(), ["heat", "scan", "learned", "target"]),
        (HeatPolicy(), ["scan", "learned", "target"]),
    ):
        EarlyExitGFNet(mapped, policy).save(tmp_path)
        config = ComparisonConfig(run=tmp_path, oracle_images=0, sheet_images=2, overwrite=True)
        assert [*compare_policies(config, digits).policies][6:] == expected
