"""Tables in Markdown, and a line below them about their origin."""

from collections.abc import Mapping, Sequence
from typing import Any


def header(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*names), row(*("---" for _ in names))]


def row(*cells: str) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def signature(
    made: Sequence[Mapping[str, Any]], seeds: Sequence[int], seconds: Sequence[float]
) -> str:
    """Seeds, time, machines and commits of some runs; ``made`` are results of ``provenance``."""
    # Each once, in the order of the runs.
    machines = dict.fromkeys(each["machine"] for each in made)
    # An installed package has no commit.
    commits = dict.fromkeys(each["commit"] for each in made if each["commit"])
    minutes = ", ".join(f"{taken / 60:.0f}" for taken in seconds)
    listed = ", ".join(map(str, seeds))
    named = f"; commit{'s' * (len(commits) > 1)} {', '.join(commits)}" if commits else ""
    return f"Seeds {listed}; {minutes} minutes; {' and '.join(machines)}{named}."
