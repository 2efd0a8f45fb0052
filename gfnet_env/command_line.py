"""Read settings from the command line."""

import dataclasses
import importlib
import io
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape

from gfnet_env.actions import ACTIONS
from gfnet_env.allocator import keep_freed_memory
from gfnet_env.classifiers import CLASSIFIERS
from gfnet_env.encoders import ENCODERS
from gfnet_env.exits import EXITS
from gfnet_env.images import IMAGES
from gfnet_env.observations import OBSERVATIONS
from gfnet_env.policies import POLICIES
from gfnet_env.registry import Registry
from gfnet_env.rewards import REWARDS

Config = TypeVar("Config")

_MENDED_BY_USERS = (ValueError, OSError, ImportError)

# The registry of each setting that names a part.
PARTS: Mapping[str, Registry[Any]] = {
    "images": IMAGES,
    "encoder": ENCODERS,
    "classifier": CLASSIFIERS,
    "actions": ACTIONS,
    "observation": OBSERVATIONS,
    "reward": REWARDS,
    "exits": EXITS,
    "policies": POLICIES,
}


def parse(
    config_class: type[Config],
    description: str | None,
    arguments: Sequence[str] | None = None,
    parts: Mapping[str, Registry[Any]] = PARTS,
) -> Config:
    """Read a configuration from the command line, and prepare the process for a command.

    ``--import MODULE``, which may be repeated, first imports a module that registers parts. Modules
    are also found in the current directory. Errors that a user can mend are printed without a
    traceback, unless ``--debug`` is given.

    Args:
        config_class: The dataclass to read.
        description: Description of the command, for ``--help``.
        arguments: Arguments to read instead of the command line's.
        parts: The registry of each setting that names a part, for ``--help``.

    Raises:
        ImportError: A module cannot be imported.
        SystemExit: The command line is wrong or asks for help.
        ValueError: A value is wrong.
    """
    keep_freed_memory()
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A terminal may lack a character, and the readers of a pipe wait for lines.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    if "--debug" not in given:
        sys.excepthook = explain
    modules, rest = take_option("--import", [word for word in given if word != "--debug"])
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    for module in modules:
        _import(module)
    described = "\n\n".join(filter(None, [description, describe_parts(config_class, parts)]))
    return tyro.cli(config_class, args=rest, description=described)


def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that ends a command: what a user can mend as a message, others as always."""
    if isinstance(error, KeyboardInterrupt):
        print(str(error) or "interrupted", file=sys.stderr)
    elif isinstance(error, _MENDED_BY_USERS):
        Console(stderr=True).print(
            f"[red]error:[/] {escape(str(error))} [dim](--debug shows where)[/]", soft_wrap=True
        )
    else:
        sys.__excepthook__(kind, error, trace)


def _import(module: str) -> None:
    """Import a module; raises ``ImportError`` if that fails, or if no module can have this name."""
    if not all(map(str.isidentifier, module.split("."))):
        raise ImportError(f"--import needs the name of a module, not {module!r}")
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"cannot import {module!r} (--import): {error}") from error


def take_option(name: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of an option that is not a setting, and the arguments without it.

    Raises:
        SystemExit: The option has no value.
    """
    values, rest = [], []
    words = iter(arguments)
    for word in words:
        key, sign, value = word.partition("=")
        if key != name:
            rest.append(word)
        elif sign:
            values.append(value)
        else:
            following = next(words, None)
            if following is None:
                raise SystemExit(f"{name} needs a value")
            values.append(following)
    return values, rest


def describe_parts(config_class: type[Any], parts: Mapping[str, Registry[Any]] = PARTS) -> str:
    """List the parts that the settings of a configuration may name, for ``--help``."""
    named = dict.fromkeys(name for name in _settings(config_class) if name in parts)
    if not named:
        return ""
    intro = (
        "Parts are given as NAME, NAME:key=value,… or module:NAME of your own; --import MODULE "
        "imports a module that registers some."
    )
    return "\n".join([intro, *(f"{name}: {parts[name].describe()}" for name in named)])


def _settings(config_class: Any) -> Iterator[str]:
    """The names of all settings, including those of groups."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _settings(kind)
        else:
            yield field.name
