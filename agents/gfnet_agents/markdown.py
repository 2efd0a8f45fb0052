"""Tables in Markdown, and the line below them that says where they come from."""

from collections.abc import Mapping, Sequence
from typing import Any


def header(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*names), row(*("---" for _ in names))]


def row(*cells: str) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def signature(results: Mapping[str, Any], seeds: Sequence[int], seconds: Sequence[float]) -> str:
    """Seeds, time, machine and commit.

    Args:
        results: With their ``provenance``.
        seeds: Of the runs.
        seconds: That they took.
    """
    made = results["provenance"]
    minutes = ", ".join(f"{taken / 60:.0f}" for taken in seconds)
    listed = ", ".join(map(str, seeds))
    return f"Seeds {listed}; {minutes} minutes; {made['machine']}; commit {made['commit']}."
