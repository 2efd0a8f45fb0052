"""Find out which subcommand to run, and run it."""

import difflib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from gfnet_cli.commands import COMMANDS, GROUPS, Command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``gfnet SUBCOMMAND …``.

    Args:
        arguments: Arguments in place of the process's.

    Raises:
        SystemExit: The command line is wrong, or asks for help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    if name in ("", "-h", "--help", "--help-all"):
        print(_help())
        sys.exit(0 if name else 2)
    if name == "--version":
        print(f"gfnet-env {metadata.version('gfnet-env')}")
        sys.exit(0)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "gfnet --help lists them"
        sys.exit(_usage_error(f"there is no command {name!r}; {hint}"))
    run(name, words[1:])


def run(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        name: Its name.
        arguments: Its arguments; by default the process's.

    Raises:
        SystemExit: The command line is wrong, or asks for help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["-h"], ["--help"]):
        # As it was generated: to make it again, all settings and torch are needed.
        print((resources.files("gfnet_cli") / "help" / f"{name}.txt").read_text("utf-8"), end="")
        sys.exit(0)
    try:
        Path.cwd()
    except FileNotFoundError:
        # Torch would end the process when it is imported.
        sys.exit(_usage_error("the working directory is gone; go to another and try again"))
    from gfnet_env.command_line import About, Flag, read

    command = COMMANDS[name]
    about = About(
        prog=f"gfnet {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.notes}",
        examples=command.examples,
        first=command.first,
    )
    kind = settings_of(command)
    flags = [Flag(["--dry-run"], "print what would run and what it would cost; write nothing")]
    if command.recipes:
        from gfnet_agents.recipes import read_config

        config, given = read_config(kind, about, words, flags)
    else:
        config, given = read(kind, about, words, parts_of(command), flags)
    if "dry_run" in given:
        _plan(command, config)
    else:
        _load(command.function)(config)
        if command.recipes and (modules := _load("gfnet_env.registry:imported_parts")()):
            needed = " ".join(f"--import {module}" for module in modules)
            print(f"If the run names parts of your own, later commands need {needed}")


def settings_of(command: Command) -> Any:
    """The class of a subcommand's settings."""
    signature = inspect.signature(_load(command.function), eval_str=True)
    return next(iter(signature.parameters.values())).annotation


def parts_of(command: Command) -> Any:
    """The registries of the parts that a subcommand's settings name, by setting."""
    with_learners = command.function.startswith("gfnet_agents")
    return _load(f"{'gfnet_agents.config' if with_learners else 'gfnet_env.command_line'}:PARTS")


def _plan(command: Command, config: Any) -> None:
    """Print a command's settings as YAML that ``--config`` takes, and its plan as comments."""
    import yaml

    plan = _load(command.plan)(config) if command.plan else None
    resolved = plan.config if plan else config
    print(f"# gfnet {command.name} would run with these settings, which --config takes.")
    print(yaml.safe_dump(_given(resolved.to_json()), sort_keys=False, allow_unicode=True))
    rows = plan.rows() if plan else [("cost", "this command does not estimate it")]
    for name, text in rows:
        print(textwrap.fill(text, 80, initial_indent=f"# {name}: ", subsequent_indent="#   "))
    print("# A dry run: nothing was written.")


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Saved settings without those that are not given."""
    return {
        name: _given(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None and value != {}
    }


def _load(name: str) -> Callable[..., Any]:
    """A function by ``module:NAME``."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _help() -> str:
    """What ``gfnet`` can do."""
    width = max(map(len, COMMANDS))
    lines = ["usage: gfnet COMMAND [options]", "", "Glance-and-focus image classification."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        for command in commands:
            lines += textwrap.wrap(
                f"{command.name:{width}}  {command.summary}",
                80,
                initial_indent="  ",
                subsequent_indent=" " * (4 + width),
                break_on_hyphens=False,
            )
    return "\n".join([*lines, "", "gfnet COMMAND --help explains a command."])


def _usage_error(message: str) -> int:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, highlight=False).print(f"[red]error: {escape(message)}[/]", soft_wrap=True)
    return 2
