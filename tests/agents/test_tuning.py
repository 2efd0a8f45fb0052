import json
import shutil

import numpy as np
import optuna
import pytest
import torch
import yaml
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from gfnet_agents import PolicyConfig, train_policy
from gfnet_agents.search import Choice, Range
from gfnet_agents.tuning import BEST, JOURNAL, TuningConfig, search_space, tune
from gfnet_env import ArrayImages, GlanceFocusNetwork

SEARCH = ("learning_rate=1e-4..1e-2", "n_steps=[2,4]", "look_cost=0..1")


@pytest.fixture(scope="module")
def sets():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 24, 32), dtype=np.uint8)
    return dict.fromkeys(("train", "val", "test"), ArrayImages(pixels, np.arange(12) % 5))


def settings(folder, **changes):
    """A study of few and short trials."""
    values = {
        "run": folder / "tuned",
        "network": folder / "network",
        "stage2": {"timesteps": 16, "num_envs": 4},
        "search": SEARCH,
        "trials": 2,
        "device": "cpu",
    }
    return TuningConfig.of(**values | changes)


@pytest.fixture(scope="module")
def _study(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    torch.manual_seed(0)
    shape = {"encoder": "compact", "patch_size": 16, "num_classes": 5, "focus_steps": 2}
    GlanceFocusNetwork.build(**shape).save(folder / "network")
    tune(settings(folder, trials=1), sets)
    return folder


@pytest.fixture
def begun(_study, tmp_path):
    """A folder with a study that one trial belongs to."""
    return shutil.copytree(_study, tmp_path / "begun")


def study_of(folder):
    backend = JournalFileBackend(str(folder / "tuned" / JOURNAL))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="tune", storage=storage)


def claimed(folder):
    """A run folder in which a process was that is gone."""
    folder.mkdir()
    (folder / ".lock").touch()


def results_of(folder):
    return json.loads((folder / "tuned" / "results.json").read_text())


def test_the_best_settings_train_the_network_of_the_best_trial_again(begun, sets, tmp_path):
    found = tune(settings(begun, resume=True), sets)
    trials = results_of(begun)["trials"]
    assert trials[0]["settings"] == {}
    assert trials[1]["settings"].keys() == {"learning_rate", "n_steps", "look_cost"}
    assert 1e-4 <= trials[1]["settings"]["learning_rate"] <= 1e-2
    best = max(trials, key=lambda each: each["accuracy"])
    assert best["number"] == results_of(begun)["best"]
    assert yaml.safe_load((begun / "tuned" / BEST).read_text()) == found
    train_policy(PolicyConfig.of(run=tmp_path / "again", **found), image_sets=sets)
    again, trial = (
        (folder / "policy.safetensors").read_bytes()
        for folder in (tmp_path / "again", begun / "tuned" / "trials" / str(best["number"]))
    )
    assert again == trial


def test_what_a_killed_process_left_is_gone_on_with(begun, sets):
    with pytest.raises(FileExistsError, match="already exists; give another folder, --resume"):
        tune(settings(begun), sets)
    # A kill ends a process in the middle of a trial.
    study = study_of(begun)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    trial = study.ask()
    drawn = {
        name: each.suggest(trial, name) for name, each in search_space(settings(begun)).items()
    }
    folder = begun / "tuned" / "trials" / str(trial.number)
    claimed(folder)
    tune(settings(begun, resume=True), sets)
    _, killed = results_of(begun)["trials"]
    assert (killed["number"], killed["state"]) == (trial.number, "complete")
    assert killed["settings"] == drawn
    assert (begun / "tuned" / "trials" / str(trial.number) / "results.json").is_file()
    states = [each.state for each in study_of(begun).trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize("goes_on", [False, True])
def test_trials_that_other_processes_work_on_are_theirs(begun, sets, goes_on):
    # It has begun right now, and has no folder yet, or still that of the process before.
    study = study_of(begun)
    if goes_on:
        claimed(begun / "tuned" / "trials" / "1")
        study.enqueue_trial({}, user_attrs={"folder": "1"})
    theirs = study.ask()
    tune(settings(begun, resume=True), sets)
    assert [each["state"] for each in results_of(begun)["trials"]] == ["complete", "running"]
    assert study_of(begun).trials[theirs.number].state == TrialState.RUNNING


@pytest.mark.parametrize("pruning", [True, False])
def test_trials_below_the_median_end_early(begun, sets, pruning):
    study = study_of(begun)
    for _ in range(5):
        curve = dict.fromkeys(range(17), 1.0)
        study.add_trial(optuna.create_trial(value=0.0, intermediate_values=curve))
    tune(settings(begun, trials=7, pruning=pruning, resume=True), sets)
    last = results_of(begun)["trials"][-1]
    assert last["state"] == ("pruned" if pruning else "complete")
    assert last["accuracy"] < 1


def test_a_trial_whose_settings_are_refused_fails_alone(begun, sets, capfd):
    # The highest rate makes weights that are not finite.
    wrong = settings(begun, run=begun / "wrong", search=("learning_rate=[1e-3,1e30]",), trials=3)
    tune(wrong, sets)
    trials = json.loads((wrong.run / "results.json").read_text())["trials"]
    assert {each["state"] for each in trials} == {"complete", "failed"}
    (error,) = {each["error"] for each in trials if each["state"] == "failed"}
    assert "learning_rate" in error
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("rest", [b'{"op', b'{"op{"op_code": 4}\n'])
def test_a_damaged_journal_is_refused(begun, sets, rest):
    with (begun / "tuned" / JOURNAL).open("ab") as journal:
        journal.write(rest)
    with pytest.raises(ValueError, match="line [0-9]+ of .*journal.log is damaged; remove it if"):
        tune(settings(begun, resume=True), sets)


def test_stage_1_is_tuned_too(sets, tmp_path):
    config = TuningConfig.of(
        run=tmp_path / "tuned",
        stage="classifier",
        patch_size=16,
        focus_steps=1,
        stage1={"epochs": 1, "batch_size": 6},
        search=("learning_rate=1e-4..1e-2", "classifier=[recurrent,cascade]"),
        trials=2,
        device="cpu",
    )
    found = tune(config, sets)
    assert found["patch_size"] == 16
    assert (tmp_path / "tuned" / "trials" / "1" / "network.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": ("rate=1..2",)}, "there is no setting 'rate' to search; known: .*clip_range"),
        (
            {"search": ("n_steps=2..1",)},
            "the range of n_steps must be two numbers that rise, not 2",
        ),
        ({"search": ("gamma=0..inf",)}, "gamma must be a finite number, not inf"),
        ({"search": ("reward=a..b",)}, "the range of reward must be two numbers"),
        ({"search": ("n_steps=fast..1",)}, "n_steps must be a whole number, not 'fast'"),
        ({"search": ("n_steps=5",)}, r"must be LOW..HIGH or \[VALUE,…\], not '5'"),
        ({"search": ("n_steps=[6,12",)}, r"must be LOW..HIGH or \[VALUE,…\], not '\[6,12'"),
        ({"search": ("n_steps=[]",)}, "search of n_steps has no value"),
        ({"search": ("n_steps=[2]", "n_steps=[3]")}, "search is given n_steps twice"),
        ({"search": ("look_cost=[free]",)}, "look_cost must be a finite number, not 'free'"),
        ({"search": ("n_steps=[many]",)}, "n_steps must be"),
        (
            {"search": ("reward=[antigravity:fly]",)},
            "module 'antigravity', which no file may import",
        ),
        ({"stage": "classifier"}, "network does not matter to the classifier; leave it out"),
        ({"patch_size": 16}, "patch_size does not matter to the policy; leave it out"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(begun, sets, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        tune(settings(begun, run=tmp_path / "run", **changes), sets)
    assert not (tmp_path / "run").exists()


def test_what_is_searched_by_default_is_what_the_algorithm_takes():
    ddpg = search_space(TuningConfig.of(run="r", stage2={"algorithm": "ddpg"}))
    assert {"learning_rate", "gradient_steps", "tau"} <= ddpg.keys()
    assert not {"clip_range", "n_steps"} & ddpg.keys()
    assert ddpg["learning_rate"] == Range(1e-4, 1e-2)
    asked = ("n_steps=2..8", "gamma=0..1")
    space = search_space(TuningConfig.of(run="r", search=asked))
    assert space == {"n_steps": Range(2, 8, whole=True), "gamma": Range(0, 1)}
    assert search_space(TuningConfig.of(run="r"))["n_epochs"] == Choice([1, 2, 4])


def test_settings_of_the_algorithm_that_are_not_searched_stay(tmp_path):
    # The name of the first may be omitted.
    asked = TuningConfig.of(run=tmp_path, stage2={"algorithm": "ppo:0.001,n_steps=6"})
    trial = asked.trial({"n_steps": 4, "look_cost": 0.5}, tmp_path)
    assert trial.schedule.algorithm == "ppo:learning_rate=0.001,n_steps=4"
    assert trial.schedule.look_cost == 0.5
