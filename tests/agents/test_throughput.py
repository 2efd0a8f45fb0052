import json

import pytest

from gfnet_agents.throughput import ThroughputConfig, benchmark, ratios
from gfnet_env.benchmarks.rounds import speedup

LIVE = {f"live, {name}" for name in ("float32", "bfloat16")}
KEPT = {f"{name}, glances kept" for name in LIVE}
SINGLES = "single environments in DummyVecEnv"
BARE = {f"bare encoders, {name}" for name in ("float32", "bfloat16")}


def test_all_kinds_of_features_are_timed(tmp_path, capsys):
    sizes = {"encoder": "compact", "patch_size": 16, "image_size": 24, "focus_steps": 2}
    config = ThroughputConfig(
        **sizes,
        num_envs=3,
        cells=2,
        repeats=2,
        training_repeats=1,
        threads=1,
        device="cpu",
        out=tmp_path / "results.json",
    )
    results = benchmark(config)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved == json.loads(json.dumps(results.to_json()))
    assert ThroughputConfig.from_json(saved["config"]) == config
    cached = {"cached, warm", "cached, cold"}
    assert set(saved["environments"]) == LIVE | KEPT | BARE | cached | {SINGLES}
    for timed in saved["environments"].values():
        steps, views = timed["steps_per_second"], timed["views_per_second"]
        assert 0 < steps["min"] <= steps["median"] <= steps["max"]
        assert views["median"] == pytest.approx(1.5 * steps["median"], rel=1e-3)
    assert all(value > 0 for value in saved["ratios"].values())
    sources = LIVE | KEPT | {"cached, warm"}
    learners = {f"{learner}, {name}" for learner in ("ppo", "torch-ppo") for name in sources}
    assert set(saved["training"]) == learners
    for name, timed in saved["training"].items():
        assert timed["steps_per_second"]["median"] > 0
        assert sum(timed["time"].values()) == pytest.approx(1, abs=1e-3)
        parts = {"environment", "policy", "rest"}
        parts |= set() if name.startswith("torch") else {"copies", "buffer"}
        assert set(timed["time"]) == parts | (set() if "cached" in name else {"encoder"})
    printed = capsys.readouterr().out
    assert "compact, 16×16 patches" in printed


def test_ratios_are_taken_within_the_rounds():
    assert speedup([1.0, 10.0, 100.0], [2.0, 30.0, 200.0]).median == 2
    names = [*LIVE, *KEPT, *BARE, "cached, warm", "cached, cold", SINGLES]
    times = {name: [2.0, 4.0] for name in names} | {"cached, warm": [0.1, 0.2]}
    found = ratios(times)
    assert found["cached, warm / live, float32"] == 20
    assert set(found.values()) == {1, 20}


@pytest.mark.parametrize("change", [{"num_envs": 0}, {"repeats": 0}, {"training_repeats": -1}])
def test_wrong_settings_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ThroughputConfig(**change)
