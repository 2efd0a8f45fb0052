"""Measure which parts of some work take how much time."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gfnet_env.timing import synchronise


class Stopwatch:
    """Counts seconds under one label at a time: an inner label stops the outer one.

    Args:
        device: Device whose pending work is awaited whenever the label changes.

    Attributes:
        seconds: Seconds counted under each label so far.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = torch.device(device)
        self._labels: list[str] = []
        self._since = 0.0

    @contextmanager
    def label(self, name: str) -> Iterator[None]:
        """Count what happens inside under ``name``."""
        self._count()
        self._labels.append(name)
        try:
            yield
        finally:
            self._count()
            self._labels.pop()

    @contextmanager
    def wrap(self, owner: Any, method: str, name: str) -> Iterator[None]:
        """Count the calls of a method of an object under ``name``, until the context ends."""
        # It is called as a decorator here, which makes a new context for each call.
        setattr(owner, method, self.label(name)(getattr(owner, method)))
        try:
            yield
        finally:
            # Uncovers the method of the class again.
            delattr(owner, method)

    def shares(self) -> dict[str, float]:
        """Each label's share of all seconds."""
        total = sum(self.seconds.values())
        return {name: seconds / total for name, seconds in self.seconds.items()}

    def _count(self) -> None:
        synchronise(self._device)
        now = time.perf_counter()
        if self._labels:
            self.seconds[self._labels[-1]] += now - self._since
        self._since = now
