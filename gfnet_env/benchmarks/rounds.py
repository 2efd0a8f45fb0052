"""Timing in rounds: contenders take turns, so that the machine's other work affects all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gfnet_env.benchmarks.results import Spread
from gfnet_env.console import track
from gfnet_env.timing import seconds


@dataclass(frozen=True)
class Contender:
    """Something to time: one round, and a preparation that is not timed."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def time_rounds(
    contenders: Mapping[str, Contender], repeats: int, device: torch.device, description: str
) -> dict[str, list[float]]:
    """Seconds of every round of each contender, after a first round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in track(range(1 + repeats), description):
        for name, contender in contenders.items():
            contender.prepare()
            taken = seconds(contender.run, device)
            if number > 0:
                times[name].append(taken)
    return times


def speedup(one: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times as fast ``one`` is, within each round."""
    return Spread.of([b / a for a, b in zip(one, other, strict=True)])
