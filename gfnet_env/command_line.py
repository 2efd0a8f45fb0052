"""Read settings from the command line and from files."""

import argparse
import difflib
import functools
import io
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar, get_args

import yaml
from docstring_parser import parse_from_object
from rich.console import Console
from rich.markup import escape

from gfnet_env.actions import ACTIONS
from gfnet_env.actions.stop import STOP
from gfnet_env.allocator import keep_freed_memory
from gfnet_env.classifiers import CLASSIFIERS
from gfnet_env.encoders import ENCODERS
from gfnet_env.exits import EXITS
from gfnet_env.files import read_bytes
from gfnet_env.images import IMAGES
from gfnet_env.observations import OBSERVATIONS
from gfnet_env.paths import user_path
from gfnet_env.policies import POLICIES
from gfnet_env.registry import Registry, import_parts
from gfnet_env.rewards import REWARDS
from gfnet_env.settings import Setting, Settings, all_settings, checked, from_text

Config = TypeVar("Config", bound=Settings)

_MENDED_BY_USERS = (ValueError, OSError, ImportError)
_WIDTH = 80

# The registry of each setting that names a part.
PARTS: Mapping[str, Registry[Any]] = {
    "images": IMAGES,
    "encoder": ENCODERS,
    "encoders": ENCODERS,
    "glance_encoder": ENCODERS,
    "classifier": CLASSIFIERS,
    "actions": ACTIONS,
    "observation": OBSERVATIONS,
    "reward": REWARDS,
    "exits": EXITS,
    "policies": POLICIES,
}


@dataclass(frozen=True, kw_only=True)
class About:
    """What the help of a command says.

    Attributes:
        description: What the command does; its lines are kept.
        prog: How the command is called; by default as this process was.
        examples: Arguments that show its use.
        first: The settings that ``--help`` lists, by the names of ``Settings.of``, most used first;
            by default all.
    """

    description: str = ""
    prog: str = ""
    examples: Sequence[str] = ()
    first: Sequence[str] = ()

    @property
    def command(self) -> str:
        """How the command is called."""
        called = Path(sys.argv[0])
        if called.is_relative_to(Path.cwd()):
            called = called.relative_to(Path.cwd())
        return self.prog or (f"python {called}" if called.suffix == ".py" else called.name)


@dataclass(frozen=True)
class Flag:
    """An option that is no setting.

    Attributes:
        names: Its names, with dashes.
        help: What it does.
        metavar: What its value is called; None if it has no value.
        repeated: Whether it may be given several times; its values are then a list.
    """

    names: Sequence[str]
    help: str
    metavar: str | None = None
    repeated: bool = False

    @property
    def key(self) -> str:
        """The name under which it is found."""
        return self.names[-1].strip("-").replace("-", "_")


# The flags of every command.
COMMON = (
    Flag(["-h", "--help"], "show what matters most"),
    Flag(["--help-all"], "show all options, and the parts with their parameters"),
    Flag(
        ["--config"],
        "read options from a YAML file, by their names, or from the config.json of a run; the "
        "command line wins",
        "FILE",
    ),
    Flag(
        ["--import"],
        "first import a module with parts, which files may name then",
        "MODULE",
        repeated=True,
    ),
    Flag(["--plots"], "write plots as svg or pdf too", "FORMAT", repeated=True),
    Flag(["--debug"], "show where an error was"),
)


def parse(
    config_class: type[Config],
    description: str | None,
    arguments: Sequence[str] | None = None,
    parts: Mapping[str, Registry[Any]] = PARTS,
) -> Config:
    """Read a configuration from the command line, and prepare the process for a command.

    See ``read``.
    """
    return read(config_class, About(description=description or ""), arguments, parts)[0]


def read(
    config_class: type[Config],
    about: About,
    arguments: Sequence[str] | None = None,
    parts: Mapping[str, Registry[Any]] = PARTS,
    flags: Sequence[Flag] = (),
) -> tuple[Config, dict[str, Any]]:
    """Read a configuration and flags, and prepare the process for a command.

    Modules to import are also found in the current directory. Errors that a user can mend are
    printed in a line without a traceback, unless ``--debug`` is given.

    Args:
        config_class: The settings to read.
        about: For ``--help``.
        arguments: Arguments to read instead of the command line's.
        parts: The registry of each setting that names a part, for ``--help``.
        flags: Options besides the settings and ``COMMON``; a file may give those with a value.

    Returns:
        The configuration, and the flags that were given, by their keys.

    Raises:
        FileNotFoundError: There is no such file of options.
        ImportError: A module cannot be imported.
        SystemExit: The command line is wrong or asks for help.
        ValueError: The file of options is wrong.
    """
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        # A terminal may lack a character, and the readers of a pipe wait for lines.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    words = [_hyphenated(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    # Without the settings: a module to import may register parts, which their help names.
    parser = _Parser()
    parser.add_flags(flags)
    given = vars(parser.parse_known_args(words)[0])
    if "debug" not in given:
        sys.excepthook = explain
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    for module in given.get("import", ()):
        import_parts(module)
    if "plots" in given:
        # Only here: reports are drawn by large libraries.
        from gfnet_env.benchmarks.report import plot_as

        plot_as(given["plots"])
    options = _Options(config_class, flags, parts)
    if "help" in given or "help_all" in given:
        print(options.help(about, everything="help_all" in given or not about.first), end="")
        sys.exit(0)
    values = options.values(words)
    if "config" in given:
        values = options.from_file(Path(given["config"])) | values
    others = {name: values.pop(name) for name in [*values] if name not in options.settings}
    try:
        config = config_class.of(**_nested(values))
    except ValueError as error:
        if "debug" in given:
            raise
        options.refuse(str(error), about)
    return config, others


class _Options:
    """The options of a command.

    Attributes:
        settings: The settings by name.
    """

    def __init__(
        self, kind: type[Settings], flags: Sequence[Flag], parts: Mapping[str, Registry[Any]]
    ) -> None:
        self.settings = {each.name: each for each in all_settings(kind)}
        self._flags, self._parts = flags, parts

    def values(self, words: Sequence[str]) -> dict[str, Any]:
        """What the words of a command line give, by name; not checked yet."""
        given, unknown = self._parser(self._groups()).parse_known_intermixed_args(words)
        if unknown:
            known = (*map(_option, self.settings), *(n for f in self._all_flags for n in f.names))
            _refuse_unknown(unknown, known)
        return {name: self._read(name, value) for name, value in vars(given).items()}

    def from_file(self, path: Path) -> dict[str, Any]:
        """What a file gives, by name.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no YAML, has an unknown name or a wrong value, or names a part in a
                module that was not imported.
        """
        path = user_path(path)
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give a file of options, such as its config.json")
        try:
            content = read_bytes(path)
            # An alias may stand for what holds it, or for itself a billion times.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content)):
                raise ValueError(f"{path} has an alias (*NAME); write out what it stands for")
            names: set[str] = set()
            for name, line in _lines(yaml.compose(content, yaml.SafeLoader)):
                if name in names:
                    raise ValueError(f"{path}, line {line}: {name} is given twice; keep one")
                names.add(name)
            found = yaml.safe_load(content)
        except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
            what = " ".join(str(error).split())
            raise ValueError(f"{path} is no YAML ({what}); give a file of options") from error
        if isinstance(found, Mapping) and found.keys() == {"config", "provenance"}:
            found = found["config"]
        if not isinstance(found, Mapping):
            raise ValueError(f"{path} holds no options; write them as NAME: VALUE, one a line")
        known = [*self.settings, *(flag.key for flag in self._flags if flag.metavar)]
        values: dict[str, Any] = {}
        for key, value in _flat(found):
            name = key.replace("-", "_")
            if name not in known:
                raise ValueError(f"{path}: there is no option {key!r}{_close(name, known)}")
            if value is None:
                continue
            values[name] = self._read(name, value)
            try:
                checked(
                    name, values[name], self.settings[name].hint if name in self.settings else str
                )
                self._check_parts(name, values[name])
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return values

    def _check_parts(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` if a setting from a file names a part that no file may name."""
        registry = self._parts.get(name.rpartition(".")[2])
        if registry is not None:
            for spec in value if isinstance(value, list | tuple) else [value]:
                registry.check_for_files(str(spec).removesuffix(STOP))

    def refuse(self, message: str, about: About) -> NoReturn:
        """End the process with a message about its command line."""
        missing = re.fullmatch(r"\w+ needs the setting '(.*)'; give it", message)
        if missing:
            setting = self.settings[missing[1]]
            name = setting.name if setting.positional else _option(setting.name)
            message = f"give {name}: {_documented(setting)}"
        _exit(message, f"{about.command} --help lists the options")

    def help(self, about: About, *, everything: bool) -> str:
        """The help, with all options or with those that are used most."""
        groups = self._groups()
        if about.first:
            needed = [each.name for each in self.settings.values() if each.required]
            first = [*dict.fromkeys([*needed, *about.first])]
            rest = {title: [n for n in names if n not in first] for title, names in groups.items()}
            groups = {"most used": first} | (rest if everything else {})
        parser = self._parser(groups)
        positional = [_metavar(each) for each in self.settings.values() if each.positional]
        parser.usage = _escaped(" ".join([about.command, *positional, "[options]"]))
        parser.description = _escaped(about.description.strip())
        examples = [_example(f"{about.command} {each}") for each in about.examples]
        end = ["examples:", *examples, ""] if examples else []
        if everything:
            end += describe_parts(self.settings, self._parts)
        else:
            end += [f"{about.command} --help-all lists all {len(self.settings)} options"]
        parser.epilog = _escaped("\n".join(end))
        return parser.format_help()

    @property
    def _all_flags(self) -> Sequence[Flag]:
        return (*self._flags, *COMMON)

    def _groups(self) -> dict[str, list[str]]:
        """The names of all settings, by what their group is about."""
        groups: dict[str, list[str]] = {}
        for name, each in self.settings.items():
            groups.setdefault(_title(each), []).append(name)
        return groups

    def _parser(self, groups: Mapping[str, Sequence[str]]) -> argparse.ArgumentParser:
        """A parser of some settings, by group, and of all flags."""
        parser = _Parser()
        for title, names in groups.items():
            group = parser.add_argument_group(title)
            for name in names:
                setting = self.settings[name]
                kind, count = setting.form
                how: dict[str, Any] = {"help": _escaped(self._described(setting))}
                if kind is bool and count is None:
                    how["action"] = argparse.BooleanOptionalAction
                else:
                    how |= {"metavar": _metavar(setting), "nargs": count}
                if setting.positional:
                    group.add_argument(name, **how)
                else:
                    group.add_argument(_option(name), dest=name, **how)
        parser.add_flags(self._flags)
        return parser

    def _described(self, setting: Setting) -> str:
        """What a setting is, its default and the names that it may have."""
        text = [_documented(setting)]
        if setting.required:
            text.append("(required)")
        elif not (setting.default is None or setting.default is False or setting.default == ()):
            text.append(f"(default: {_shown(setting.default)})")
        registry = self._parts.get(setting.name.rpartition(".")[2])
        if registry is not None:
            text.append(f"Known: {', '.join(registry)}.")
        return " ".join(text)

    def _read(self, name: str, value: Any) -> Any:
        return from_text(value, self.settings[name].hint) if name in self.settings else value


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of 80 columns; names are not broken at their hyphens."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=22, width=_WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """A parser whose help has 80 columns, and which says in a line what is wrong."""

    def __init__(self) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=_Formatter,
        )

    def add_flags(self, flags: Sequence[Flag]) -> None:
        """Add flags, and those of all commands."""
        group = self.add_argument_group("all commands")
        for flag in (*flags, *COMMON):
            how: dict[str, Any] = {"help": _escaped(flag.help), "dest": flag.key}
            if flag.metavar is None:
                how["action"] = "store_true"
            else:
                how |= {"metavar": flag.metavar, "action": "append" if flag.repeated else "store"}
            group.add_argument(*flag.names, **how)

    def error(self, message: str) -> NoReturn:
        """End the process; argparse would print the usage too."""
        _exit(message)


def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that ends a command: what a user can mend as a message, others as always."""
    if isinstance(error, KeyboardInterrupt):
        print(str(error) or "interrupted", file=sys.stderr)
    elif isinstance(error, _MENDED_BY_USERS):
        print_error(str(error), "--debug shows where")
    else:
        sys.__excepthook__(kind, error, trace)


def print_error(message: str, hint: str = "", *, kind: str = "error") -> None:
    """Print what went wrong in a line of its own, red where there are colours."""
    line = f"[red]{kind}: {escape(' '.join(message.splitlines()))}[/]"
    hinted = f"{line} [dim]({hint})[/]" if hint else line
    Console(stderr=True, highlight=False).print(hinted, soft_wrap=True)


def describe_parts(
    settings: Iterable[str], parts: Mapping[str, Registry[Any]] = PARTS
) -> list[str]:
    """The parts that some settings may name and their parameters, in lines of 80 columns."""
    named = {
        name: parts[name]
        for name in (each.rpartition(".")[2] for each in settings)
        if name in parts
    }
    if not named:
        return []
    intro = (
        "parts are given as NAME, NAME:key=value,… or module:NAME of your own; --import imports a "
        "module that registers some:"
    )
    lines = textwrap.wrap(intro, _WIDTH)
    for name, registry in named.items():
        lines += ["", f"{_option(name)}"]
        for part in registry.describe().split("; "):
            lines += textwrap.wrap(
                re.sub(r",\s*", ", ", part), _WIDTH, initial_indent="  ", subsequent_indent="      "
            )
    return lines


def _hyphenated(word: str) -> str:
    """An option as it is listed: ``--image_size=9`` becomes ``--image-size=9``."""
    name, sign, value = word.partition("=")
    return name.replace("_", "-") + sign + value if word.startswith("--") else word


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(setting: Setting) -> str:
    """What a value is called: ``INT``, ``{train,val}``."""
    kind, _ = setting.form
    if setting.positional:
        return setting.name.upper().removesuffix("S")
    names = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}
    choices = ",".join(map(str, get_args(kind)))
    return f"{{{choices}}}" if choices else names.get(kind, "VALUE")


def _title(setting: Setting) -> str:
    """What the group of a setting is about, behind the group's name if it is a prefix."""
    text = " ".join((setting.owner.__doc__ or "").split())
    summary = re.split(r"[.;:] |[.;:]$|, see", text.replace("`", ""))[0]
    prefix = setting.name.rpartition(".")[0]
    return f"{prefix}: {summary}" if prefix else summary


def _documented(setting: Setting) -> str:
    """The description of a setting, in its class or where that has it from."""
    name = setting.name.rpartition(".")[2]
    return next(filter(None, (_texts(each).get(name) for each in setting.owner.__mro__)), "")


@functools.cache
def _texts(kind: type[Any]) -> dict[str, str]:
    """What is written below the fields of a class, without its bases."""
    if kind is object:
        return {}
    texts = {each.arg_name: each.description or "" for each in parse_from_object(kind).params}
    return {name: " ".join(text.replace("`", "").split()) for name, text in texts.items()}


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _example(command: str) -> str:
    """A command in lines of 80 columns, as a shell reads them; values stay with their options."""
    first, *options = re.split(" (?=--)", command.strip())
    lines = [f"  {first}"]
    for option in options:
        if len(lines[-1]) + len(option) + len("  \\") <= _WIDTH:
            lines[-1] += f" {option}"
        else:
            lines.append(f"      {option}")
    return " \\\n".join(lines)


def _escaped(text: str) -> str:
    """Text for argparse, which formats it."""
    return text.replace("%", "%%")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of ``Settings.of``: ``stage1.epochs`` belongs to ``stage1``."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return nested


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The reverse of ``_nested``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The names of groups and options in YAML, and the line of each."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}".replace("-", "_")
            yield name, key.start_mark.line + 1
            yield from _lines(value, f"{name}.")


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"


def _refuse_unknown(words: Sequence[str], known: Sequence[str]) -> NoReturn:
    """End the process because of words that are no options."""
    name = words[0].partition("=")[0]
    if len(name) > 2 and name.startswith("-"):
        close = difflib.get_close_matches(name, known, n=1)
        _exit(f"there is no option {name}" + (f"; did you mean {close[0]}?" if close else ""))
    _exit(f"unexpected {' '.join(map(repr, words))}: the name of an option begins with --")


def _exit(message: str, hint: str = "") -> NoReturn:
    """End the process because its command line is wrong."""
    print_error(message, hint)
    sys.exit(2)
