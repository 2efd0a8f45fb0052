import csv
import json

import numpy as np
import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.benchmarks.curves import least_margin
from gfnet_env.benchmarks.per_class import class_results, plot_confusion
from gfnet_env.benchmarks.results import ClassResult, CurvePoint, Evaluation
from gfnet_env.benchmarks.statistics import mean_interval
from gfnet_env.images import load_images
from gfnet_env.models import StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy, LearnedPolicy


@pytest.fixture
def sets():
    return {split: load_images("cluttered-digits:scenes=60", split) for split in ("val", "test")}


def save_baselines(folder, networks):
    """As train_baseline leaves them."""
    for network in networks:
        network.save(folder / str(network.config.resolution))
    rows = [{"resolution": network.config.resolution} for network in networks]
    (folder / "results.json").write_text(json.dumps({"static": rows}))


@pytest.fixture
def run(network, tmp_path):
    EarlyExitGFNet(network, CenterPolicy()).save(tmp_path / "run")
    torch.manual_seed(0)
    configs = [
        StaticConfig(encoder="compact", resolution=resolution, num_classes=10)
        for resolution in (48, 128)
    ]
    save_baselines(tmp_path / "static", [StaticNetwork(config) for config in configs])
    return tmp_path


def test_curves_are_what_the_network_does(run, sets):
    results = evaluate(EvaluationConfig(run=run / "run", budgets=5), sets)
    gfnet = EarlyExitGFNet.load(run / "run")
    labels = sets["test"].labels
    for points in results.budgeted.values():
        assert len(points) == 5
        for point in points:
            gfnet.set_thresholds(point.thresholds)
            prediction = gfnet.classify(sets["test"])
            right = float((prediction.classes == labels).double().mean())
            assert point.accuracy == pytest.approx(right, abs=1e-6)
            assert point.multiply_adds == float(prediction.multiply_adds.double().mean())
            assert point.interval[0] <= point.accuracy <= point.interval[1]
    for row, prediction in zip(results.anytime, gfnet.anytime(sets["test"][:]), strict=True):
        right = float((prediction.classes == labels).double().mean())
        assert row.accuracy == pytest.approx(right, abs=1e-6)
    assert [row.multiply_adds for row in results.anytime] == gfnet.multiply_adds
    assert results.static is None


def test_scenes_of_one_digit_are_drawn_together(run, sets):
    results = evaluate(EvaluationConfig(run=run / "run", budgets=2), sets)
    images = sets["test"]
    prediction = next(EarlyExitGFNet.load(run / "run").anytime(images[:]))
    correct = (prediction.classes == images.labels).numpy()
    interval = results.anytime[0].interval
    assert interval == pytest.approx(mean_interval(correct, images.sources), abs=1e-6)
    assert interval != pytest.approx(mean_interval(correct), abs=1e-6)


def test_results_are_files_that_are_not_lost(run, sets):
    config = EvaluationConfig(run=run / "run", baseline=run / "static", budgets=3)
    results = evaluate(config, sets)
    out = run / "run" / "evaluation"
    saved = json.loads((out / "results.json").read_text())
    assert saved == results.to_json()
    assert Evaluation.from_json(saved) == results
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["curve"] for row in rows} == {"anytime", "geometric", "searched", "static"}
    assert len(rows) == 4 + 3 + 3 + 2
    assert [row.resolution for row in results.static] == [48, 128]
    assert set(results.comparison) == {"geometric", "searched"}
    with pytest.raises(FileExistsError, match="evaluation already exists"):
        evaluate(config, sets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 3}, "the network knows 3 classes, the images have 10"),
        ({"resolution": 64}, "the images have a resolution of 128, the best baseline 64"),
        ({"encoder": "resnet10t"}, "the baselines have the encoder 'resnet10t', the network 'comp"),
    ],
)
def test_baselines_that_do_not_fit_are_named(run, sets, changes, message):
    config = StaticConfig(**{"encoder": "compact", "resolution": 128, "num_classes": 10} | changes)
    save_baselines(run / "other", [StaticNetwork(config)])
    with pytest.raises(ValueError, match=message):
        evaluate(EvaluationConfig(run=run / "run", baseline=run / "other"), sets)
    assert not (run / "run" / "evaluation").exists()


def test_what_is_no_run_of_baselines_is_named(run, sets):
    with pytest.raises(FileNotFoundError, match=r"no results\.json in .*run"):
        evaluate(EvaluationConfig(run=run / "run", baseline=run / "run"), sets)
    (run / "run" / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no static networks"):
        evaluate(EvaluationConfig(run=run / "run", baseline=run / "run"), sets)
    with pytest.raises(ValueError, match="budgets must be at least 2"):
        EvaluationConfig(run=run, budgets=1)


def point(cost, accuracy):
    return CurvePoint(multiply_adds=cost, accuracy=accuracy, interval=(accuracy, accuracy))


def test_margins_by_hand():
    static = [point(10, 0.6), point(1000, 0.8)]
    # Half way from 10 to 1000 in the logarithm the static curve is at 0.7; beyond, it is level.
    points = [point(5, 0.5), point(100, 0.72), point(200, 0.78), point(2000, 0.83)]
    assert least_margin(points, static).to_json() == {"accuracy": 0.02, "multiply_adds": 100}
    assert least_margin([point(20, 0.5)], static).accuracy < -0.1
    assert least_margin([point(5, 0.5)], static) is None


def test_equal_accuracy_is_chosen_on_the_calibration_split(run, sets):
    # A baseline that always says the same is beaten by the glance.
    config = StaticConfig(encoder="compact", resolution=128, num_classes=10)
    static = StaticNetwork(config)
    torch.nn.init.zeros_(static.encoder.head_module().weight)
    save_baselines(run / "constant", [static])
    results = evaluate(EvaluationConfig(run=run / "run", baseline=run / "constant"), sets)
    gfnet = EarlyExitGFNet.load(run / "run")
    for method in ("geometric", "searched"):
        found = results.comparison[method].at_accuracy
        assert found.multiply_adds == gfnet.multiply_adds[0]
        full = results.static[-1]
        assert found.factor == round(full.multiply_adds / gfnet.multiply_adds[0], 3)
        assert found.difference == pytest.approx(found.accuracy - full.accuracy, abs=2e-6)
        low, high = found.difference_interval
        assert 0 < low < found.difference < high


def test_policies_that_stop_are_measured_as_they_run(network, sets, tmp_path):
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), actions="zoom:max_scale=2+stop")
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5)
    policy.actor[-1].bias.data[-1] = 0.4
    EarlyExitGFNet(network, policy).save(tmp_path / "run")
    results = evaluate(EvaluationConfig(run=tmp_path / "run", budgets=3), sets)
    gfnet = EarlyExitGFNet.load(tmp_path / "run")
    prediction = gfnet.classify(sets["test"])
    assert len(prediction.exit_step.unique()) > 1
    spent = float(prediction.multiply_adds.double().mean())
    assert results.anytime[-1].multiply_adds == pytest.approx(spent)
    for point in results.budgeted["geometric"]:
        gfnet.set_thresholds(point.thresholds)
        found = gfnet.classify(sets["test"])
        assert point.multiply_adds == float(found.multiply_adds.double().mean())
        share = np.bincount(found.exit_step, minlength=4) / len(found)
        assert point.exit_share == pytest.approx(share, abs=1e-6)


def test_every_class_has_figures(run, sets, capsys):
    results = evaluate(EvaluationConfig(run=run / "run", budgets=2), sets)
    gfnet = EarlyExitGFNet.load(run / "run")
    *_, last = gfnet.anytime(sets["test"][:])
    labels, taken = sets["test"].labels.numpy(), last.classes.numpy()
    for number, found in enumerate(results.classes):
        own, meant = labels == number, taken == number
        assert (found.name, found.images) == (str(number), own.sum())
        assert results.confusion[number] == tuple(np.bincount(taken[own], minlength=10))
        if meant.any():
            assert found.precision == pytest.approx(own[meant].mean(), abs=1e-6)
        assert found.recall == pytest.approx(meant[own].mean(), abs=1e-6)
        # The share of pairs, one of the class and one of the others, in the right order.
        score = last.probabilities[:, number].numpy()
        above = score[own][:, None] > score[~own]
        assert found.auc == pytest.approx(above.mean(), abs=1e-5)
    assert (run / "run" / "evaluation" / "confusion.png").is_file()
    assert "precision" in capsys.readouterr().out


def test_what_a_class_lacks_is_none():
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0]])
    (first, second, third), confusion = class_results(labels, probabilities, ["a", "b", "c"])
    assert (first.precision, first.recall, first.f1) == (1.0, 0.5, pytest.approx(2 / 3, abs=1e-6))
    assert (second.precision, second.recall, second.auc) == (0.5, 1.0, 1.0)
    assert (third.images, third.precision, third.recall, third.auc) == (0, None, None, None)
    assert confusion == ((1, 1, 0), (0, 1, 0), (0, 0, 0))


def test_a_name_of_a_class_is_no_formula(tmp_path):
    found = tuple(ClassResult(name=name, images=1) for name in ("$5 to $6", "$x_{$"))
    plot_confusion(found, ((1, 0), (0, 1)), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
