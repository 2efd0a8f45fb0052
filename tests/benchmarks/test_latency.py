import itertools
import json

import numpy as np
import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import EvaluationConfig, evaluate, rounds
from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency
from gfnet_env.benchmarks.results import Latency
from gfnet_env.images import DatasetImages, load_images
from gfnet_env.models import GlanceFocusNetwork, StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy, LearnedPolicy

ENCODER = "compact:widths=[8],strides=[4]"


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(encoder=ENCODER, patch_size=32, num_classes=10).eval()
    policy = LearnedPolicy.for_model(network, (16,))
    EarlyExitGFNet(network, policy).save(tmp_path / "run")
    config = StaticConfig(encoder=ENCODER, resolution=128, num_classes=10)
    StaticNetwork(config).save(tmp_path / "static" / "128")
    (tmp_path / "static" / "results.json").write_text('{"static": [{"resolution": 128}]}')
    return tmp_path


@pytest.fixture
def mixed_sets():
    """Eight pictures of noise, each of its own size, for either split."""
    rng = np.random.default_rng(0)
    pictures = [
        (rng.integers(0, 256, (3, 130 + 9 * number, 150), np.uint8), number) for number in range(8)
    ]
    return {"val": DatasetImages(pictures), "test": DatasetImages(pictures)}


def test_everything_is_timed_in_both_engines(run, mixed_sets):
    evaluate(EvaluationConfig(run=run / "run", baseline=run / "static", budgets=4), mixed_sets)
    config = LatencyConfig(
        run=run / "run", baseline=run / "static", count=6, repeats=2, budgets=2, batch_sizes=(1, 4)
    )
    threads = torch.get_num_threads()
    results = measure_latency(config, mixed_sets["test"])
    assert torch.get_num_threads() == threads
    saved = json.loads((run / "run" / "latency" / "results.json").read_text())
    assert Latency.from_json(saved) == results
    timed = [(row.engine, row.threads, row.batch_size) for row in results.timings]
    assert timed == list(itertools.product(("onnx", "onnx-int8", "torch"), (1, 2), (1, 4)))
    assert {point.name for point in results.points[:2]} == {"budget"}
    assert results.images == 6
    for row in results.timings:
        assert len(row.points) == len(results.points)
        for spread in (row.static, *row.points):
            assert 0 < spread.min <= spread.median <= spread.max


def test_what_is_timed_is_what_was_evaluated(run, monkeypatch):
    # A clock that counts multiply-adds: a time is then a cost, and a speedup the factor saved.
    spent = [0.0]
    call = torch.nn.Module.__call__

    def counted(module, *inputs, **options):
        outputs = call(module, *inputs, **options)
        if isinstance(module, EarlyExitGFNet):
            spent[0] += float(outputs.multiply_adds.sum())
        if isinstance(module, StaticNetwork):
            spent[0] += static_cost * len(inputs[0])
        return outputs

    sets = {split: load_images("cluttered-digits:scenes=30", split) for split in ("val", "test")}
    config = EvaluationConfig(run=run / "run", baseline=run / "static", budgets=4)
    static_cost = evaluate(config, sets).static[-1].multiply_adds
    monkeypatch.setattr(torch.nn.Module, "__call__", counted)

    def seconds(call, device):
        before = spent[0]
        call()
        return spent[0] - before

    monkeypatch.setattr(rounds, "seconds", seconds)
    config = LatencyConfig(
        run=run / "run",
        baseline=run / "static",
        count=30,
        repeats=1,
        budgets=3,
        batch_sizes=(8,),
        threads=(1,),
        engines=("torch",),
    )
    results = measure_latency(config, sets["test"])
    (timing,) = results.timings
    assert timing.static.median == pytest.approx(1e3 * static_cost)
    for point, timed in zip(results.points, timing.points, strict=True):
        # All test images are timed, so they cost what was evaluated.
        assert point.multiply_adds_of_timed == pytest.approx(point.multiply_adds)
        assert timed.median == pytest.approx(1e3 * point.multiply_adds)
        speedup = static_cost / point.multiply_adds
        assert timed.speedup.median == pytest.approx(speedup, abs=1e-3)


def test_what_was_not_evaluated_cannot_be_timed(run):
    config = LatencyConfig(run=run / "run", baseline=run / "static")
    with pytest.raises(FileNotFoundError, match=r"no results\.json in .*evaluation"):
        measure_latency(config)
    sets = {split: load_images("cluttered-digits:scenes=10", split) for split in ("val", "test")}
    evaluate(EvaluationConfig(run=run / "run", budgets=2), sets)
    with pytest.raises(
        ValueError, match=r"does not belong to this best baseline: run evaluate\.py .*--baseline"
    ):
        measure_latency(config, sets["test"])
    both = EvaluationConfig(run=run / "run", baseline=run / "static", budgets=2, overwrite=True)
    evaluate(both, sets)
    torch.manual_seed(1)
    StaticNetwork(StaticConfig(encoder=ENCODER, resolution=128, num_classes=10)).save(
        run / "static" / "128"
    )
    with pytest.raises(ValueError, match="does not belong to this best baseline"):
        measure_latency(config, sets["test"])
    network = GlanceFocusNetwork.build(encoder="compact", patch_size=32, num_classes=10)
    EarlyExitGFNet(network, CenterPolicy()).save(run / "run")
    with pytest.raises(ValueError, match=r"does not belong to this network: run evaluate\.py"):
        measure_latency(config, sets["test"])


def test_nothing_cannot_be_timed(tmp_path):
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        LatencyConfig(run=tmp_path, baseline=tmp_path, repeats=0)
    with pytest.raises(ValueError, match="batch_sizes must be at least 1"):
        LatencyConfig(run=tmp_path, baseline=tmp_path, batch_sizes=(0,))
    with pytest.raises(ValueError, match="threads must name at least one"):
        LatencyConfig(run=tmp_path, baseline=tmp_path, threads=())
    with pytest.raises(ValueError, match="threads must be at most 256, not 100000"):
        LatencyConfig(run=tmp_path, baseline=tmp_path, threads=(1, 100_000))
