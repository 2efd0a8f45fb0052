import csv
import json

import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.benchmarks.curves import compare
from gfnet_env.data import load_images
from gfnet_env.inference import classify
from gfnet_env.perception import StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy


@pytest.fixture
def sets():
    return {split: load_images("cluttered-digits:scenes=60", split) for split in ("val", "test")}


@pytest.fixture
def run(network, tmp_path):
    EarlyExitGFNet(network, CenterPolicy()).save(tmp_path / "run")
    for resolution in (48, 128):
        torch.manual_seed(0)
        config = StaticConfig(encoder="compact", resolution=resolution, num_classes=10)
        StaticNetwork(config).save(tmp_path / "static" / str(resolution))
    return tmp_path


def test_curves_are_what_the_network_does(run, sets):
    results = evaluate(EvaluationConfig(run=run / "run", budgets=5), sets)
    gfnet = EarlyExitGFNet.load(run / "run")
    labels = sets["test"].labels
    for points in results["budgeted"].values():
        assert len(points) == 5
        for point in points:
            gfnet.set_thresholds(point["thresholds"])
            prediction = classify(gfnet, sets["test"])
            right = float((prediction.classes == labels).double().mean())
            assert point["accuracy"] == pytest.approx(right, abs=1e-6)
            assert point["multiply_adds"] == float(prediction.multiply_adds.double().mean())
            assert point["interval"][0] <= point["accuracy"] <= point["interval"][1]
    for row, prediction in zip(results["anytime"], gfnet.anytime(sets["test"][:]), strict=True):
        right = float((prediction.classes == labels).double().mean())
        assert row["accuracy"] == pytest.approx(right, abs=1e-6)
    assert [row["multiply_adds"] for row in results["anytime"]] == gfnet.multiply_adds
    assert "static" not in results


def test_results_are_files_that_are_not_lost(run, sets):
    config = EvaluationConfig(run=run / "run", baseline=run / "static", budgets=3)
    results = evaluate(config, sets)
    out = run / "run" / "evaluation"
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["curve"] for row in rows} == {"anytime", "geometric", "searched", "static"}
    assert len(rows) == 4 + 3 + 3 + 2
    assert [row["resolution"] for row in results["static"]] == [48, 128]
    assert set(results["comparison"]) == {"geometric", "searched"}
    with pytest.raises(FileExistsError, match="evaluation already exists"):
        evaluate(config, sets)


def test_what_does_not_fit_is_named(run, sets, tiny_images):
    with pytest.raises(FileNotFoundError, match="no static networks"):
        evaluate(EvaluationConfig(run=run / "run", baseline=run / "run"), sets)
    config = StaticConfig(encoder="compact", resolution=16, num_classes=3)
    StaticNetwork(config).save(run / "other" / "16")
    with pytest.raises(ValueError, match="the network knows 3 classes, the images have 10"):
        evaluate(EvaluationConfig(run=run / "run", baseline=run / "other"), sets)
    assert not (run / "run" / "evaluation").exists()
    with pytest.raises(ValueError, match="budgets must be at least 2"):
        EvaluationConfig(run=run, budgets=1)


def point(cost, accuracy, interval=(0, 1)):
    return {"multiply_adds": cost, "accuracy": accuracy, "interval": list(interval)}


def test_the_comparison_by_hand():
    static = [point(10, 0.6), point(1000, 0.8, (0.77, 0.83))]
    found = compare([point(5, 0.5), point(100, 0.72), point(200, 0.78), point(500, 0.81)], static)
    assert found["at_accuracy"]["multiply_adds"] == 500
    assert found["at_accuracy"]["factor"] == 2
    assert found["within_interval"]["factor"] == 5
    # Half way from 10 to 1000 in the logarithm the static curve is at 0.7.
    assert found["least_margin"] == {"accuracy": 0.02, "multiply_adds": 100}


def test_a_comparison_can_be_lost():
    found = compare([point(20, 0.5)], [point(10, 0.6), point(1000, 0.8, (0.77, 0.83))])
    assert found["at_accuracy"] is None
    assert found["within_interval"] is None
    assert found["least_margin"]["accuracy"] < -0.1
