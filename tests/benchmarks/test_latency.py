import json

import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency
from gfnet_env.data import load_images
from gfnet_env.perception import StaticConfig, StaticNetwork
from gfnet_env.policies import LearnedPolicy


@pytest.fixture
def run(network, tmp_path):
    torch.manual_seed(0)
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (16,))
    EarlyExitGFNet(network, policy).save(tmp_path / "run")
    # Less than the whole image, so that resizing has its place too.
    config = StaticConfig(encoder="compact", resolution=64, num_classes=10)
    StaticNetwork(config).save(tmp_path / "static" / "64")
    return tmp_path


def test_everything_is_timed_in_both_engines(run):
    sets = {split: load_images("cluttered-digits:scenes=30", split) for split in ("val", "test")}
    evaluate(EvaluationConfig(run=run / "run", baseline=run / "static", budgets=4), sets)
    config = LatencyConfig(
        run=run / "run", baseline=run / "static", count=6, repeats=2, budgets=2, batch_sizes=(1, 4)
    )
    results = measure_latency(config, sets["test"])
    saved = json.loads((run / "run" / "latency" / "results.json").read_text())
    assert saved == json.loads(json.dumps(results))
    assert [(row["engine"], row["batch_size"]) for row in saved["timings"]] == [
        ("torch", 1),
        ("torch", 4),
        ("onnx", 1),
        ("onnx", 4),
    ]
    assert {point["name"] for point in saved["points"][:2]} == {"budget"}
    for row in saved["timings"]:
        assert len(row["points"]) == len(saved["points"])
        for timed in (row["static"], *row["points"]):
            assert 0 < timed["least"] <= timed["median"] <= timed["most"]


def test_what_was_not_evaluated_cannot_be_timed(run):
    config = LatencyConfig(run=run / "run", baseline=run / "static")
    with pytest.raises(FileNotFoundError, match=r"no results\.json in .*evaluation"):
        measure_latency(config)
    sets = {split: load_images("cluttered-digits:scenes=10", split) for split in ("val", "test")}
    evaluate(EvaluationConfig(run=run / "run", budgets=2), sets)
    with pytest.raises(FileNotFoundError, match=r"holds no baselines; run evaluate\.py with"):
        measure_latency(config, sets["test"])


def test_nothing_cannot_be_timed(tmp_path):
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        LatencyConfig(run=tmp_path, baseline=tmp_path, repeats=0)
