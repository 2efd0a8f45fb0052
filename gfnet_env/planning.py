"""What a command would do and cost, found out without writing anything."""

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.settings import Settings
from gfnet_env.timing import median_seconds

# Images in the batch that is timed.
_TIMED = 64


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes:
        config: Its settings, with all defaults filled in.
        figures: What it would take, by what that is.
        seconds: About how long it would take; None if nothing was timed.
    """

    config: Settings
    figures: Mapping[str, str]
    seconds: float | None = None

    def rows(self) -> Iterator[tuple[str, str]]:
        """All figures."""
        yield from self.figures.items()
        if self.seconds is not None:
            yield "time", f"about {duration(self.seconds)}, if this machine has nothing else to do"
        yield "memory", memory()


def count_images(sets: Mapping[str, ImageSet]) -> str:
    """How many images there are, by split."""
    return ", ".join(f"{name} {len(images):,}" for name, images in sets.items())


def step_seconds(steps: Iterator[Any], count: int = 2) -> float:
    """Mean duration of some steps behind the first one, which warms up, if there are so many."""
    times = [time.perf_counter()]
    times += [time.perf_counter() for _ in itertools.islice(steps, 1 + count)]
    taken = np.diff(times)
    return float(taken[1:].mean() if len(taken) > 1 else taken.mean())


def duration(taken: float) -> str:
    """A time in the unit that fits it."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if taken >= 2 * size:
            return f"{taken / size:.0f} {unit}"
    return f"{taken:.0f} seconds" if taken >= 2 else "a second or two"


def amount(multiply_adds: float) -> str:
    """Multiply-adds in the unit that fits them."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if multiply_adds >= size:
            return f"{multiply_adds / size:.1f} {unit}"
    return f"{multiply_adds / 1e6:.1f} M"


def memory() -> str:
    """What this process holds now, and the most of a GPU that it has held."""
    held = f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB held after what was timed"
    if not torch.cuda.is_available():
        return held
    return f"{held}; {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU at most"


def plan_passes(
    config: Settings, gfnet: EarlyExitGFNet, sets: Mapping[str, ImageSet], passes: Mapping[str, int]
) -> Plan:
    """The plan of a command that takes all steps of all images some times.

    Args:
        config: Its settings.
        gfnet: The network.
        sets: Its images, by split.
        passes: How often it goes through each split.
    """
    images = next(iter(sets.values()))
    batch = np.arange(min(_TIMED, len(images)))

    def take() -> None:
        evaluate_policy(gfnet.model, gfnet.policy, images, indices=batch)

    taken = median_seconds(take, gfnet.model.device, repeats=3) / len(batch)
    count = sum(passes[name] * len(each) for name, each in sets.items())
    cost = gfnet.multiply_adds[-1]
    figures = {
        "images": count_images(sets),
        "passes": ", ".join(f"{name} {passes[name]}" for name in sets),
        "multiply-adds": f"{amount(cost)} an image with all looks, {amount(count * cost)} in all",
    }
    return Plan(config, figures, count * taken)
