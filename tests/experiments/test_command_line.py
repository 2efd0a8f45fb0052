"""How every command reads its settings."""

import dataclasses
import io
import sys
from typing import Annotated

import pytest

from gfnet_env.command_line import describe_parts, explain, parse
from gfnet_env.rewards import REWARDS
from gfnet_env.settings import AtLeast, Flat, Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    """How much."""

    reward: str = "sparse"
    """What a look is worth."""
    count: Annotated[int, AtLeast(1)] = 1
    """How many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    """What."""

    name: str
    """Whose."""
    inner: Flat[Inner] = Inner()
    later: Inner = Inner()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the current directory, which registers a reward."""
    (tmp_path / "their_rewards.py").write_text(
        "from gfnet_env.rewards import REWARDS\n"
        "@REWARDS.register('theirs')\n"
        "def theirs(transition): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REWARDS, "_targets", dict(REWARDS._targets))
    yield "their_rewards"
    sys.modules.pop("their_rewards", None)


def test_groups_of_settings_have_a_prefix_unless_they_are_flat():
    parsed = parse(Outer, "", ["--name", "it", "--count", "3", "--later.count", "4"])
    assert parsed == Outer(name="it", inner=Inner(count=3), later=Inner(count=4))


def test_a_module_of_the_users_own_is_imported_first(module):
    parsed = parse(Outer, "", ["--import", module, "--name", "it", "--reward", "theirs"])
    assert parsed.inner.reward == "theirs"
    assert "theirs" in REWARDS
    for name in ("nowhere", "", "no module", ".", "a..b"):
        with pytest.raises(ImportError, match=f"{name!r}"):
            parse(Outer, "", [f"--import={name}", "--name", "it"])


def test_help_names_the_known_parts(module, capsys):
    with pytest.raises(SystemExit):
        parse(Outer, "What it does.", ["--import", module, "--help"])
    shown = capsys.readouterr().out
    assert "What it does." in shown
    assert "confidence-gain" in shown
    assert "theirs" in shown
    assert "--later.count" in shown


def test_only_settings_that_name_parts_have_a_list():
    assert describe_parts(["name", "reward"])[-5:] == [
        *("--reward", "  confidence-gain", "  cross-entropy-gain"),
        *("  random-contrast:seed=0", "  sparse"),
    ]
    assert describe_parts(["count"]) == []


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            ValueError("seed must be at least 0, not -1 [sic]"),
            "seed must be at least 0, not -1 [sic]",
        ),
        (FileNotFoundError("there is no folder /nothing"), "there is no folder /nothing"),
        (KeyboardInterrupt("interrupted; --resume goes on"), "interrupted; --resume goes on\n"),
        (KeyboardInterrupt(), "interrupted\n"),
    ],
)
def test_what_a_user_can_mend_is_shown_as_a_message(error, shown, capsys):
    explain(type(error), error, None)
    printed = capsys.readouterr().err
    assert shown in printed
    assert "Traceback" not in printed
    assert ("--debug" in printed) == (not isinstance(error, KeyboardInterrupt))


def test_a_terminal_may_lack_a_character(monkeypatch):
    """What was computed is not lost because its table cannot be shown."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    parse(Outer, None, ["--name", "a"])
    print("32×32 …")
    # Whoever reads a pipe sees a line at once.
    assert sys.stdout.buffer.getvalue() == b"32?32 ?\n"
    explain(ValueError, ValueError("32×32 is too small"), None)
    assert b"32?32 is too small" in sys.stderr.buffer.getvalue()


def test_our_own_mistakes_are_shown_as_always(capsys):
    explain(AssertionError, AssertionError("never"), None)
    assert "AssertionError: never" in capsys.readouterr().err


def test_a_command_shows_where_an_error_was_if_asked_to(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert parse(Outer, None, ["--debug", "--name", "a"]) == Outer(name="a")
    assert sys.excepthook is sys.__excepthook__
    parse(Outer, None, ["--name", "a"])
    assert sys.excepthook is explain
