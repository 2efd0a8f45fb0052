"""A task as small as can be: few scenes, and few looks to learn from."""

import dataclasses
from pathlib import Path

import pytest

from gfnet_agents.leaderboard import LeaderboardOptions, leaderboard, standings
from gfnet_env.files import read_json
from gfnet_env.tasks import TASKS


@pytest.fixture(autouse=True)
def _few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["ClutteredDigits-v0"]
    tiny = dataclasses.replace(task, images="cluttered-digits:scenes=40", timesteps=64)
    monkeypatch.setitem(TASKS, "ClutteredDigits-v0", tiny)


def _options(folder: Path, **changes: object) -> LeaderboardOptions:
    given = {
        "tasks": ("ClutteredDigits-v0",),
        "algorithms": ("a2c",),
        "seeds": (0,),
        "run": folder / "runs",
        "out": folder / "out",
    }
    return LeaderboardOptions.of(**given | changes)


def test_rows_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    leaderboard(_options(tmp_path))
    first = read_json(tmp_path / "out/results.json")
    leaderboard(_options(tmp_path, algorithms=("maskable-ppo",)))
    results = read_json(tmp_path / "out/results.json")
    assert first.items() < results.items()

    found = standings(results, "ClutteredDigits-v0")
    assert {"random", "center", "target", "a2c", "maskable-ppo"} <= found.keys()
    # The network has no where-map.
    assert "heat" not in found
    scores = [runs[0]["accuracy"][-1] for runs in found.values()]
    assert scores == sorted(scores, reverse=True)
    assert found["a2c"][0]["environment_steps"] == 64
    text = (tmp_path / "out/README.md").read_text()
    assert "## ClutteredDigits-v0" in text
    assert "| a2c | 64 |" in text
    assert "Megapixel" not in text


def test_learners_run_on_tasks_whose_actions_they_take(tmp_path: Path) -> None:
    options = _options(tmp_path, algorithms=None)
    assert "maskable-ppo" in options.learners("ClutteredDigits-v0")
    assert "maskable-ppo" not in options.learners("MegapixelMNIST-v0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("Chess-v0",)}, "unknown task 'Chess-v0'; known: ClutteredDigits-v0, "),
        ({"algorithms": ("ppp",)}, "unknown learner 'ppp'"),
        ({"tasks": ("MegapixelMNIST-v0",), "algorithms": ("dqn",)}, "does not take|takes"),
        ({"seeds": ()}, "seeds is empty"),
        ({"tasks": ()}, "tasks is empty"),
        ({"algorithms": ("ppo:gamma=1e-1", "ppo:gamma=1e+1")}, "nearly the same name"),
    ],
)
def test_wrong_options_are_refused_before_the_work(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        _options(tmp_path, **changes)
    assert not any(tmp_path.iterdir())
