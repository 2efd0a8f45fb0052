import dataclasses
import functools
import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gfnet_agents import PipelineConfig, PolicySchedule
from gfnet_agents.study import Study, StudyOptions, _kept, run_study
from gfnet_env.benchmarks.latency import LatencyConfig
from gfnet_env.files import read_json, write_json
from gfnet_env.images import load_images
from gfnet_env.training import BaselineConfig, ClassifierSchedule

SHARED = {"images": "in memory", "encoder": "compact:widths=[8,16],strides=[2,2]"}
SCHEDULE = {"epochs": 1, "batch_size": 32}


@pytest.fixture(scope="module")
def sets():
    # With the digit in the middle of a small canvas a network learns within seconds.
    return {
        split: load_images("cluttered-digits:canvas=40,pieces=2,scenes=24", split)
        for split in ("train", "val", "test")
    }


def gfnet(run, patch_size):
    return PipelineConfig.of(
        run=run,
        patch_size=patch_size,
        focus_steps=2,
        stage1=ClassifierSchedule(**SCHEDULE),
        stage2=PolicySchedule(timesteps=64, num_envs=8),
        stage3=ClassifierSchedule(**SCHEDULE),
        **SHARED,
    )


def options_of(folder, **changes):
    values = {"run": folder / "run", "out": folder / "out", "timed": False, "device": "cpu"}
    return StudyOptions.of(**values | changes)


def study(run, **changes):
    values = {
        "title": "Digits",
        "static": BaselineConfig.of(run=run, resolutions=(16, 20, 40), **SCHEDULE, **SHARED),
        "gfnets": [gfnet(run, 16)],
        "published": {"others": "50%"},
        "oracle_images": 3,
    }
    return Study(**values | changes)


def keep(out, results, count):
    """Have results.json hold the first seeds only."""
    write_json(
        out / "results.json", dataclasses.replace(results, runs=results.runs[:count]).to_json()
    )


@pytest.fixture(scope="module")
def done(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    options = options_of(folder, seeds=(0, 1))
    return options, run_study(study(folder), options, sets)


def test_the_table_is_the_mean_of_the_runs(done):
    options, results = done
    assert [run.seed for run in results.runs] == [0, 1]
    assert json.loads((options.out / "results.json").read_text()) == results.to_json()
    table = (options.out / "README.md").read_text()
    check_report(options.out, results, 16)
    assert "| others | 50% |" in table
    assert str(options.run) not in table + (options.out / "results.json").read_text()


def check_report(out, results, side):
    """One patch size has its section, and pictures beside it."""
    section = (out / "README.md").read_text().partition(f"## P = {side}\n")[2]
    found = [run.gfnets[str(side)] for run in results.runs]
    last = np.mean([each.policies["learned"][-1] for each in found])
    row = next(line for line in section.splitlines() if line.startswith("| learned looks"))
    assert f"{1 - last:.2%}" in row
    for name, after in found[0].stages.items():
        assert f"| after {name} |" in section
        assert len(after) == 3
    for name in ("curves", "patches"):
        with Image.open(out / f"{name}-{side}.png") as drawn:
            assert drawn.size[0] > 200


def test_every_patch_size_has_its_section_and_its_pictures(done, sets, tmp_path):
    options, results = done
    run = shutil.copytree(options.run, tmp_path / "run")
    # Another patch size beside the one that has been trained.
    (run / "seed-0" / "measured.json").unlink()
    both = study(tmp_path, gfnets=[gfnet(tmp_path, side) for side in (16, 20)])
    resumed = options_of(tmp_path, seeds=(0,), resume=True)
    found = run_study(both, resumed, sets)
    assert found.runs[0].gfnets["16"] == results.runs[0].gfnets["16"]
    for side in (16, 20):
        check_report(resumed.out, found, side)


def test_it_goes_on_with_more_seeds(done, sets):
    options, results = done
    more = options.replace(seeds=(0,), resume=True)
    again = run_study(study(options.run), more, sets)
    assert again.runs == results.runs[:1]
    # Of a seed that was interrupted, what was trained and measured before is left alone.
    (options.run / "seed-1" / "measured.json").unlink()
    weights = options.run / "seed-1" / "gfnet-16" / "stage1" / "network.safetensors"
    trained = weights.stat().st_mtime_ns
    more = more.replace(seeds=(0, 1))
    (_, resumed) = run_study(study(options.run), more, sets).runs
    assert weights.stat().st_mtime_ns == trained
    before = results.runs[1]
    assert resumed.seconds >= before.seconds
    assert dataclasses.replace(resumed, seconds=before.seconds) == before


def test_seeds_are_added_to_those_of_another_run(done, sets, tmp_path):
    options, results = done
    out = shutil.copytree(options.out, tmp_path / "out")
    keep(out, results, 1)
    first = (out / "patches-16.png").read_bytes()
    more = options_of(tmp_path, seeds=(0, 1), add=True)
    added = run_study(study(tmp_path), more, sets)
    assert not (more.run / "seed-0").exists()
    kept, new = added.runs
    assert kept == results.runs[0]
    # The same seed gives the same numbers elsewhere.
    assert dataclasses.replace(new, seconds=results.runs[1].seconds) == results.runs[1]
    assert (out / "patches-16.png").read_bytes() == first
    assert "mean of 2 seeds" in (out / "README.md").read_text()
    other = more.replace(run=tmp_path / "other", seeds=(2,))
    longer = study(tmp_path)
    longer = dataclasses.replace(longer, static=longer.static.replace(epochs=7))
    with pytest.raises(ValueError, match=r"results\.json was made with other .* \(of static\)"):
        run_study(longer, other, sets)
    assert not other.run.exists()


def test_what_another_study_has_measured_is_not_taken_for_its_own(done, sets, tmp_path):
    options, results = done
    run = shutil.copytree(options.run, tmp_path / "run")
    resumed = options_of(tmp_path, seeds=(0, 1), resume=True)
    assert resumed.run == run
    for sides, parts in (((18,), "gfnet-18, gfnet-16"), ((16, 20), "gfnet-20")):
        other = study(tmp_path, gfnets=[gfnet(tmp_path, side) for side in sides])
        with pytest.raises(ValueError, match=rf"measured\.json was made with .* \(of {parts}\)"):
            run_study(other, resumed, sets)
    shutil.copy(run / "seed-1" / "measured.json", run / "seed-0")
    with pytest.raises(ValueError, match=r"measured\.json was made with the seed 1, not 0"):
        run_study(study(tmp_path), resumed, sets)
    resumed.out.mkdir(exist_ok=True)
    keep(resumed.out, dataclasses.replace(results, runs=results.runs[:1] * 2), 2)
    with pytest.raises(ValueError, match=r"results\.json holds a seed twice"):
        run_study(study(tmp_path), resumed.replace(add=True), sets)


@pytest.fixture
def quick_latency(monkeypatch):
    quick = functools.partial(
        LatencyConfig.of, engines=("torch",), repeats=1, batch_sizes=(64,), threads=(1,)
    )
    monkeypatch.setattr("gfnet_agents.study.LatencyConfig", SimpleNamespace(of=quick))


@pytest.mark.usefixtures("quick_latency")
def test_wall_times_of_the_first_seed_may_come_later(done, sets, tmp_path):
    options, results = done
    run = shutil.copytree(options.run, tmp_path / "run")
    later = options_of(tmp_path, run=run, seeds=(0, 1), timed=True, resume=True)
    first, second = run_study(study(tmp_path), later, sets).runs
    assert second.gfnets == results.runs[1].gfnets
    for found in first.gfnets.values():
        assert all(timing.static.median > 0 for timing in found.latency.timings)
    assert (later.out / "README.md").read_text().count("| torch | 1 | 64 |") == 1
    # They are those of a moment: a second time would give others.
    assert run_study(study(tmp_path), later, sets).runs == (first, second)
    # One seed's are enough, of another machine too.
    added = later.replace(add=True)
    keep(later.out, dataclasses.replace(results, runs=(first,)), 1)
    assert run_study(study(tmp_path), added, sets).runs == (first, second)
    keep(later.out, results, 1)
    _, timed = run_study(study(tmp_path), added, sets).runs
    assert timed.is_timed
    assert "medians (seed 1)" in (later.out / "README.md").read_text()


def test_a_mistake_in_a_gfnet_is_found_before_the_static_networks_learn(sets, tmp_path):
    wrong = gfnet(tmp_path, 20).replace(stage2=PolicySchedule(algorithm="pp"))
    with pytest.raises(ValueError, match="unknown learner 'pp'"):
        run_study(study(tmp_path, gfnets=[gfnet(tmp_path, 16), wrong]), options_of(tmp_path), sets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run", "out"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/new: Not a directory"):
        run_study(study(tmp_path), options_of(tmp_path, **{name: tmp_path / "file" / "new"}))


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_seeds_are_checked(tmp_path, seeds):
    with pytest.raises(ValueError, match="seeds must be (different numbers|at least 0)"):
        StudyOptions.of(run=tmp_path, out=tmp_path, seeds=seeds)


@pytest.mark.parametrize("sides", [(), (16, 16)])
def test_patch_sizes_are_checked(tmp_path, sides):
    with pytest.raises(ValueError, match="give patch sizes, each once"):
        study(tmp_path, gfnets=[gfnet(tmp_path, side) for side in sides])


ROOT = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("recipe", "results"), [("digits", "digits-48"), ("ram60", "ram60"), ("ram100", "ram100")]
)
def test_the_committed_results_are_of_the_study_still(recipe, results):
    study = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))["STUDY"]
    written = ROOT / "results" / results / "results.json"
    if not written.is_file() or "settings" not in read_json(written):
        pytest.skip("these results were made before settings were noted")
    kept = _kept(study, written)
    assert sorted(kept) == list(kept)
    assert kept
