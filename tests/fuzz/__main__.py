"""Fuzz the library: draw inputs of all kinds, and count what comes of them.

python -m tests.fuzz --inputs 100000 --seed 0 --out fuzz.json
python -m tests.fuzz --only pictures --first 123 --inputs 1
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import track
from rich.table import Table

from gfnet_env.command_line import parse
from gfnet_env.files import write_json
from gfnet_env.runs import provenance
from gfnet_env.settings import AtLeast, Settings
from tests.fuzz.core import Report, fuzz, shares
from tests.fuzz.targets import TARGETS

# Inputs between two steps of the progress bar.
_BATCH = 200
# In bytes of addresses, of which torch alone takes a few gigabytes.
_MEMORY = 12 * 2**30


@dataclass(frozen=True, kw_only=True)
class FuzzConfig(Settings):
    """Which inputs."""

    inputs: Annotated[int, AtLeast(1)] = 2000
    """Number of inputs."""
    seed: Annotated[int, AtLeast(0)] = 0
    """Seed of the inputs."""
    only: str | None = None
    """The only kind of input to draw."""
    first: Annotated[int, AtLeast(0)] = 0
    """Number of the first input of each kind."""
    out: Path | None = None
    """File for the counts and the findings, as JSON."""


def main(config: FuzzConfig) -> Report:
    """Draw, use, count; print and write the counts and the findings."""
    if config.only is not None and config.only not in TARGETS:
        raise ValueError(f"unknown kind {config.only!r}; known: {', '.join(TARGETS)}")
    numbers = shares(config.inputs) if config.only is None else {config.only: range(config.inputs)}
    report, total = Report(), sum(map(len, numbers.values()))
    batches = [
        (name, chosen[start : start + _BATCH])
        for name, chosen in numbers.items()
        for start in range(0, len(chosen), _BATCH)
    ]
    for name, chosen in track(batches, description=f"{total} inputs"):
        first, last = (config.first + end for end in (chosen.start, chosen.stop))
        report.merge(fuzz({name: range(first, last)}, config.seed))
    show(report)
    if config.out is not None:
        content = {"seed": config.seed, **report.to_json(), "provenance": provenance()}
        write_json(config.out, content)
    return report


def _limit_memory() -> None:
    """An input that asks for more memory than there is must fail alone."""
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or most > _MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, most))


def show(report: Report) -> None:
    """Print the counts and the findings."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    table = Table("inputs of", "number", "right", "errors of ours", "errors of others", "wrong")
    for name, *counts in report.rows():
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print(table)
    for finding in report.findings.values():
        console.print(
            "{target} {number} ({count} times), {outcome}: {error}\n  at {at}\n  {input}".format(
                **finding
            )
        )


if __name__ == "__main__":
    _limit_memory()
    sys.exit(1 if main(parse(FuzzConfig, __doc__)).findings else 0)
