"""Measure time."""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch

from gfnet_env.settings import AtLeast, checked


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Duration of one call, including the device's work."""
    synchronise(device)
    started = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - started


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median duration of several calls, after one that does not count.

    Raises:
        ValueError: ``repeats`` is no number of at least 1.
    """
    checked("repeats", repeats, Annotated[int, AtLeast(1)])
    call()
    return statistics.median(seconds(call, device) for _ in range(repeats))
