import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfnet_agents import (
    AlgorithmComparisonConfig,
    PolicyConfig,
    PolicySchedule,
    ScheduleComparisonConfig,
    compare_algorithms,
    compare_schedules,
    train_policy,
)
from gfnet_agents.comparison import folder_name
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import load_images
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.models import GlanceFocusNetwork


@pytest.fixture(scope="module")
def sets():
    return {
        split: load_images("cluttered-digits:scenes=40", split)
        for split in ("train", "val", "test")
    }


def config(run, **changes):
    values = {
        "run": run,
        "seeds": 2,
        "stage2": PolicySchedule(timesteps=96, num_envs=8),
        "device": "cpu",
    }
    return AlgorithmComparisonConfig.of(**values | changes)


@pytest.fixture(scope="module")
def compared(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, compare_algorithms(config(folder), sets)


def test_every_run_is_a_run_of_its_own(compared, sets):
    folder, results = compared
    assert [(run.schedule, run.seed) for run in results.runs] == [("ppo", 0), ("ppo", 1)]
    for run in results.runs:
        gfnet = EarlyExitGFNet.load(folder / f"ppo-{run.seed}")
        record = evaluate_policy(gfnet.model, gfnet.policy, sets["test"])
        assert run.accuracy == pytest.approx(record.accuracy.tolist(), abs=1e-6)
        # A policy is looked at between updates, of which there is one here.
        assert [point.steps for point in run.curve] == [0, 96]


def test_the_summary_is_that_of_the_runs(compared):
    _, results = compared
    summary = results.schedules["ppo"]
    accuracy = np.array([run.accuracy for run in results.runs])
    assert summary.accuracy == pytest.approx(accuracy.mean(axis=0).tolist(), abs=1e-6)
    random = results.bounds["random"]
    assert summary.above_random == pytest.approx(accuracy[:, -1].mean() - random[-1], abs=1e-6)
    low, high = summary.above_random_interval
    assert low <= summary.above_random <= high
    assert summary.beats == {}


def test_it_is_written_as_a_table_and_a_picture(compared):
    folder, results = compared
    assert json.loads((folder / "results.json").read_text()) == results.to_json()
    rows = (folder / "table.csv").read_text().splitlines()
    assert rows[0].startswith("schedule,seed,steps,seconds,step 0")
    assert len(rows) == 3
    with Image.open(folder / "curves.png") as drawn:
        assert drawn.size[0] > 500
    assert list((folder / "tensorboard").glob("ppo-*"))
    table = (folder / "README.md").read_text()
    (row,) = (line for line in table.splitlines() if line.startswith("| ppo |"))
    assert f"{results.schedules['ppo'].accuracy[1]:.1%}" in row
    assert "Seeds 0, 1;" in table


def test_runs_that_are_complete_are_left_alone(compared, sets):
    folder, results = compared
    written = (folder / "ppo-0" / "results.json").stat().st_mtime_ns
    out = folder / "elsewhere" / "out"
    again = compare_algorithms(config(folder, resume=True, out=out), sets)
    assert again == results
    for name in ("results.json", "README.md", "table.csv", "curves.png"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert str(folder) not in (out / "results.json").read_text()
    assert (folder / "ppo-0" / "results.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="was begun with seeds=2, not 3"):
        compare_algorithms(config(folder, resume=True, seeds=3), sets)
    with pytest.raises(FileExistsError, match="already exists"):
        compare_algorithms(config(folder), sets)


def test_what_is_written_over_is_learned_anew(compared, sets, tmp_path):
    run = shutil.copytree(compared[0], tmp_path / "run")
    written = run / "ppo-0" / "results.json"
    before = written.stat().st_mtime_ns
    compare_algorithms(config(run, seeds=1, overwrite=True), sets)
    assert written.stat().st_mtime_ns > before


def test_a_curve_changes_nothing_that_is_learned(compared, sets, tmp_path):
    folder, _ = compared
    train_policy(
        PolicyConfig.of(
            run=tmp_path / "plain",
            timesteps=96,
            num_envs=8,
            oracle_images=0,
            curve_points=0,
            device="cpu",
        ),
        image_sets=sets,
    )
    assert not (tmp_path / "plain" / "curve.json").exists()
    ours, plain = (
        (path / "policy.safetensors").read_bytes()
        for path in (folder / "ppo-0", tmp_path / "plain")
    )
    assert ours == plain


def test_ray_spreads_the_same_runs(compared, sets, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra 'ray')")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        spread = compare_algorithms(config(tmp_path, ray=True), sets)
    finally:
        ray.shutdown()
    _, results = compared
    assert [run.accuracy for run in spread.runs] == [run.accuracy for run in results.runs]
    assert spread.schedules == results.schedules


def test_all_runs_share_one_cache_of_features(sets, tmp_path):
    options = {"features": "cached", "cells": 3, "cache": tmp_path / "features"}
    comparison = config(tmp_path / "run", algorithms=("ppo", "a2c"), seeds=1, **options)
    results = compare_algorithms(comparison, sets)
    assert [run.schedule for run in results.runs] == ["ppo", "a2c"]
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_every_choice_of_the_recipe_is_learned_in_its_own_way(tmp_path):
    sets = {
        split: load_images("cluttered-digits:scenes=16", split)
        for split in ("train", "val", "test")
    }
    recipe = runpy.run_path(
        str(Path(__file__).parents[2] / "experiments" / "recipes" / "policy.py")
    )
    schedules = {
        name: schedule.replace(timesteps=48, num_envs=4)
        for name, schedule in recipe["SCHEDULES"].items()
    }
    config = ScheduleComparisonConfig.of(run=tmp_path / "run", seeds=1, device="cpu")
    networks = recipe["make_networks"](config, sets, epochs=1)
    results = compare_schedules(schedules, config, sets, networks)
    assert list(results.schedules) == list(schedules)
    found, bounds = results.schedules, results.bounds
    assert found["default"].bounds is None
    # The classifier sees what it saw before, the policy another map.
    for name, shape in (("map-of-block-1", (32, 16, 16)), ("map-of-block-2", (64, 8, 8))):
        assert found[name].bounds == bounds
        assert EarlyExitGFNet.load(tmp_path / "run" / f"{name}-0").model.feature_shape == shape
    assert found["patches-of-24"].bounds != bounds
    table = (tmp_path / "run" / "README.md").read_text()
    assert "| *target, patches-of-24* |" in table
    assert "map-of-block-1*" not in table
    learned = {
        (tmp_path / "run" / f"{name}-0" / "policy.safetensors").read_bytes() for name in schedules
    }
    assert len(learned) == len(schedules)


def test_networks_that_do_not_go_with_the_others_are_refused(sets, tmp_path):
    config = ScheduleComparisonConfig.of(run=tmp_path / "run", seeds=1)
    schedules = {"default": PolicySchedule(timesteps=48)}
    with pytest.raises(ValueError, match=r"given for \['other'\]; schedules are \['default'\]"):
        compare_schedules(schedules, config, sets, {"other": tmp_path})
    shape = {"encoder": "compact", "patch_size": 32, "num_classes": 10, "focus_steps": 2}
    GlanceFocusNetwork.build(**shape).save(tmp_path / "short")
    with pytest.raises(ValueError, match="network of default has 2 focus steps, the others have 3"):
        compare_schedules(schedules, config, sets, {"default": tmp_path / "short"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithms": ("ppo", "sacc")}, "unknown learner 'sacc'; did you mean 'sac'"),
        ({"algorithms": ("ppo", "ars:gamma=0.5")}, "'ars:gamma=0.5' has no parameter 'gamma'"),
        ({"algorithms": ("ppo", "dqn"), "stage2": PolicySchedule(actions="continuous")}, "actions"),
        ({"algorithms": ("ppo:buffer_size=5",)}, "has no parameter 'buffer_size'"),
        ({"algorithms": ("ppo", "ppo:n_steps=0")}, "n_steps must be at least 1, not 0"),
    ],
)
def test_what_is_wrong_with_any_run_is_said_before_the_first(sets, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        compare_algorithms(config(tmp_path / "run", **wrong), sets)
    assert not (tmp_path / "run").exists()


def test_a_comparison_goes_on_from_another_folder(sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = config(Path("run")).comparison.job("ppo", PolicySchedule(), 0)
    assert job.run == tmp_path.resolve() / "run" / "ppo-0"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"algorithms": ()}, "give at least one algorithm"),
        ({"algorithms": ("ppo", "ppo")}, "these have the same or nearly the same name: ppo, ppo"),
        ({"stage2": PolicySchedule(algorithm="sac")}, "'sac' is not among the algorithms, ppo"),
    ],
)
def test_a_comparison_of_nothing_is_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **wrong)


def test_learners_of_any_library_are_compared_by_their_specs(sets, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments" / "parts")
    specs = ("sac:ent_coef=0.1", "climbing_learner:Climbing:deviation=0.2")
    schedule = PolicySchedule(timesteps=96, num_envs=8)
    comparison = config(tmp_path / "run", algorithms=specs, seeds=1, stage2=schedule)
    results = compare_algorithms(comparison, sets)
    assert list(results.schedules) == list(specs)
    assert all(run.environment_steps >= 96 for run in results.runs)
    folders = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert {"sac-ent_coef=0.1-0", "climbing_learner-Climbing-deviation=0.2-0"} <= folders


def test_names_of_folders_are_short_and_tell_specs_apart():
    assert folder_name("ppo") == "ppo"
    specs = [f'ppo:policy_kwargs={{"net_arch":[{", ".join(["64"] * 40)}],"n":{n}}}' for n in (1, 2)]
    names = {folder_name(spec) for spec in specs}
    assert len(names) == 2
    assert max(map(len, names)) < 100
