"""Settings of every command, from Python and from the command line."""

import contextlib
import io
import json
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from gfnet_agents import AlgorithmComparisonConfig, PipelineConfig, PolicyConfig, parse_config
from gfnet_agents.config import PARTS, complete
from gfnet_cli.commands import COMMANDS
from gfnet_cli.main import settings_of
from gfnet_env.command_line import parse
from gfnet_env.settings import Settings, all_settings
from gfnet_env.training import BaselineConfig, ClassifierConfig
from tests.fuzz.core import Input, RefusedError, target
from tests.fuzz.values import TEXT, anything, fitting, written


def _stages(config: PipelineConfig) -> None:
    for number in (1, 2, 3):
        config.resolved().stage_config(number)


# What each command checks before it begins to work.
_CHECKS: Mapping[type[Settings], Callable[[Any], object]] = {
    PolicyConfig: complete,
    ClassifierConfig: ClassifierConfig.resolved,
    BaselineConfig: BaselineConfig.resolved,
    PipelineConfig: _stages,
}
# What ``parse_config`` completes by a recipe.
_WITH_RECIPES = (*_CHECKS, AlgorithmComparisonConfig)


@cache
def _commands() -> list[type[Settings]]:
    """The settings of all commands."""
    found = {kind.__name__: kind for kind in map(settings_of, COMMANDS.values())}
    return [found[name] for name in sorted(found)]


def hints_of(kind: type[Settings]) -> dict[str, Any]:
    """The annotations of all settings by the names of ``of``, groups with a prefix as a whole."""
    fields = typing.get_type_hints(kind, include_extras=True)
    names = (each.name.partition(".")[0] for each in all_settings(kind))
    hints = {each.name: each.hint for each in all_settings(kind)}
    return {name: hints.get(name, fields.get(name)) for name in names}


def _drawn(draw: Random, name: str, hint: Any) -> Any:
    """A value of a setting, of the right type more often than not."""
    if isinstance(hint, type) and issubclass(hint, Settings):
        return _values(draw, hint) if draw.random() < 0.9 else anything(draw)
    return fitting(draw, hint, PARTS.get(name)) if draw.random() < 0.85 else anything(draw)


def _values(draw: Random, kind: type[Settings]) -> dict[str, Any]:
    """Values of some settings, and mostly of those that have no default."""
    hints = hints_of(kind)
    needed = [each.name for each in all_settings(kind) if each.required]
    count = min(len(hints), draw.choice((0, 1, 1, 2, 3, 6)))
    chosen = {*draw.sample(sorted(hints), count), *(needed if draw.random() < 0.95 else ())}
    values = {name: _drawn(draw, name, hints[name]) for name in sorted(chosen)}
    if draw.random() < 0.05:
        values[draw.choice((*TEXT[:12], "seeds", "epoch", "self", "cls"))] = anything(draw)
    return values


@target("settings", share=20)
def _settings(draw: Random, folder: Path) -> Input:
    kind = draw.choice(_commands())
    values = _values(draw, kind)

    def use() -> None:
        config = kind.of(**values)
        kept = dict(config.items())
        assert all(_same(kept[name], value) for name, value in values.items())
        saved = json.loads(json.dumps(config.to_json(), allow_nan=False))
        assert kind.from_json(saved) == config
        assert 0 <= kept.get("seed", 0) < 2**32
        _CHECKS.get(kind, str)(config)

    known = (name.removesuffix("s") for name in hints_of(kind))
    names = [*known, "config.json", *filter(None, values), *_words(values)]
    return Input((kind.__name__, values), use, names)


def _words(value: Any) -> Iterator[str]:
    """All names and values in the values of settings."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for each in value:
            yield from _words(each)
    else:
        yield from filter(_says_something, (str(value), repr(value)))


def _says_something(word: str) -> bool:
    """Whether a word is no part of most messages."""
    return len(word.strip()) > 2


def _same(kept: Any, given: Any) -> bool:
    """Whether a setting is what was given, but for its form."""
    if isinstance(kept, Settings):
        own = dict(kept.items())
        return all(_same(own[name], value) for name, value in dict(given).items() if name in own)
    if isinstance(kept, Path):
        return kept == Path(given).expanduser()
    if isinstance(kept, tuple):
        return len(kept) == len(given) and all(map(_same, kept, given))
    return bool(kept == given or (isinstance(kept, float) and kept == float(given)))


@target("command lines", share=3)
def _command_lines(draw: Random, folder: Path) -> Input:
    kind = draw.choice(_commands())
    known = list(all_settings(kind))
    known_names = {*hints_of(kind), *(each.name for each in known)}
    arguments: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        setting = draw.choice(known)
        value = _drawn(draw, setting.name.rpartition(".")[2], setting.hint)
        many = isinstance(value, list | tuple)
        words = list(map(_word, value)) if many else [_word(value)]
        option = f"--{setting.name.replace('_', '-')}"
        if draw.random() < 0.05:
            option = draw.choice((option[:-1], option + "x", "--", "-", "--import", "--recipe"))
        # No system takes a NUL in an argument.
        arguments += [word.replace("\0", "") for word in (option, *words)]
    for each in known:
        if each.required and draw.random() < 0.95:
            option = () if each.positional else (f"--{each.name.replace('_', '-')}",)
            arguments += [*option, "x"]

    def use() -> None:
        read: Callable[..., Any] = parse_config if kind in _WITH_RECIPES else parse
        with _captured() as said:
            try:
                config = read(kind, "", arguments)
            except SystemExit as error:
                status = error.code
            else:
                saved = json.loads(json.dumps(config.to_json(), allow_nan=False))
                assert kind.from_json(saved) == config
                return
        if status:
            # What is missing is named as the help names it.
            missing = (each.name.upper() for each in known if each.positional)
            shown = (word for word in (*names, *arguments, *missing) if word.strip("-"))
            assert any(map(said.getvalue().__contains__, shown)), said.getvalue()
            raise RefusedError

    # Of a path that is too long, a message shows the beginning.
    words = [*arguments, *map(repr, arguments), *(repr(word[:40]) for word in arguments)]
    words += [word.strip("-").replace("-", "_") for word in arguments]
    names = [*known_names, *filter(_says_something, words)]
    return Input((kind.__name__, arguments), use, names, (ValueError, OSError, ImportError))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else written(value)


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """Collect what is printed, and undo what commands change for their process."""
    said, hook, path = io.StringIO(), sys.excepthook, list(sys.path)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield said
    finally:
        sys.excepthook, sys.path[:] = hook, path
