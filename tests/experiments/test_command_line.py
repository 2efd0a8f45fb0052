"""How every command reads its settings."""

import dataclasses
import io
import sys
from typing import Annotated

import pytest

from gfnet_agents import parse_config
from gfnet_env.command_line import describe_parts, explain, parse
from gfnet_env.rewards import REWARDS
from gfnet_env.runs import save_config
from gfnet_env.settings import AtLeast, Flat, Settings
from gfnet_env.training import ClassifierConfig


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
    later_rate: float = 0.5
    """How fast."""


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


@pytest.fixture
def from_file(tmp_path):
    """Parses a file of options, and words of the command line that win over it."""

    def read_file(text, *words):
        path = tmp_path / "options.yaml"
        path.write_text(text)
        return parse(Outer, "", ["--config", str(path), *words])

    return read_file


def test_options_are_read_from_a_file(from_file):
    parsed = from_file("name: it\ncount: 3\nlater: {count: 4}\nreward:\n")
    assert parsed == Outer(name="it", inner=Inner(count=3), later=Inner(count=4))
    assert from_file("name: it\nlater.count: 4\n") == Outer(name="it", later=Inner(count=4))
    # The command line wins.
    parsed = from_file("name: it\ncount: 3\nlater.count: 4\n", "--later.count", "5")
    assert parsed == Outer(name="it", inner=Inner(count=3), later=Inner(count=5))
    assert from_file("later-rate: '1e-2'\n", "--name", "it").later_rate == 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conut: 3", r"options\.yaml: there is no option 'conut'; did you mean count\?"),
        ("later: {conut: 3}", r"there is no option 'later\.conut'; did you mean later\.count\?"),
        ("something: 3", "no option 'something'; known: name, reward, count, later.reward"),
        ("count: 0", r"options\.yaml: count must be at least 1, not 0"),
        ("count: [1, 2]", "count must be a whole number"),
        ("later: 3", "there is no option 'later'"),
        ("debug: true", "there is no option 'debug'"),
        ("reward: os:system", r"options\.yaml: the reward 'os:system' .* no file may import"),
        ("later: {reward: 'os:system:x'}", "'os', which no file may import"),
        ("recipe: [1]", r"options\.yaml: there is no option 'recipe'"),
        ("name: a\ncount: 1\nname: b", r"options\.yaml, line 3: name is given twice; keep one"),
        ("later-rate: 1\nlater_rate: 2", "line 2: later_rate is given twice"),
        ("later: {count: 1, count: 2}", r"line 1: later\.count is given twice"),
        ("later:\n  count: 1\nlater.count: 2", r"line 3: later\.count is given twice"),
        ("later: {count: 1}\nlater: {reward: sparse}", "line 2: later is given twice"),
        ("name: &a [*a]", r"options\.yaml has an alias"),
        ("name: &a {b: *a}", r"options\.yaml has an alias"),
        ("name: " + "[" * 2000, r"options\.yaml is no YAML"),
        ("a: [", "is no YAML"),
        ("- a", "holds no options"),
        ("", "holds no options"),
    ],
)
def test_wrong_files_of_options_are_refused_by_name(text, message, from_file):
    with pytest.raises(ValueError, match=message):
        from_file(text, "--name", "it")


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "is a folder; give a file"), ("\0", "no file can be at"), ("a" * 5000, "is too long")],
)
def test_what_is_no_file_of_options_is_named(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse(Outer, "", ["--config", f"{tmp_path}/{name}", "--name", "it"])


@pytest.mark.parametrize("recipe", ["[regnet]", "3"])
def test_a_recipe_in_a_file_is_text(recipe, tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text(f"recipe: {recipe}\nrun: {tmp_path}\n")
    with pytest.raises(ValueError, match=r"options\.yaml: recipe must be text, not"):
        parse_config(ClassifierConfig, "", ["--config", str(path)])


def test_the_configuration_of_a_run_is_a_file_of_options(tmp_path):
    saved = Outer(name="it", inner=Inner(count=3), later=Inner(count=4))
    save_config(tmp_path, saved)
    given = ["--config", str(tmp_path / "config.json"), "--count", "7"]
    assert parse(Outer, "", given) == saved.replace(count=7)


def test_a_file_may_name_a_recipe(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text(f"recipe: regnet\nrun: {tmp_path}\nepochs: 3\n")
    parsed = parse_config(ClassifierConfig, "", ["--config", str(path)])
    assert (parsed.schedule.epochs, parsed.schedule.learning_rate) == (3, 0.02)
    parsed = parse_config(ClassifierConfig, "", ["--config", str(path), "--recipe", "default"])
    assert parsed.schedule.learning_rate is None
