"""Draw images in proportion to the doubt that glances left, as far as it is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_Floats = npt.NDArray[np.float64]
_Rows = npt.NDArray[np.int64]


class Doubt:
    """1 − p_glance(y) of the images of a set: the most that looks could gain.

    An image whose glance is not known yet counts as much as the mean of the known ones. So nothing
    has to be known at first, and memory is all that grows with the set: 24 bytes per image.

    Args:
        count: Number of images, N.
    """

    def __init__(self, count: int) -> None:
        # A sum tree, as in prioritised replay (Schaul et al., 2016, appendix B.2.1): leaves hold
        # doubts, and each node the sum of the two below it.
        self._leaves = 1 << max(count - 1, 0).bit_length()
        self._sums = np.zeros(2 * self._leaves)
        # Images that are not known, in any order, and the place of each image among them.
        self._unknown = np.arange(count)
        self._place = np.arange(count)
        self._count = count

    def learn(self, indices: _Rows, doubts: _Floats) -> None:
        """Take note of the doubts, (B,) in [0, 1], that glances at images (B,) left."""
        seen = np.unique(indices)
        for index in seen[self._place[seen] >= 0].tolist():
            self._remove(index)
        nodes = seen + self._leaves
        self._sums[indices + self._leaves] = doubts
        while nodes[0] > 1:
            nodes = np.unique(nodes // 2)
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def draw(self, rng: np.random.Generator) -> int:
        """An image."""
        known, unknown = self._count - len(self._unknown), len(self._unknown)
        total = float(self._sums[1])
        # If no glance leaves any doubt, all images are equally likely.
        mean = total / known if total > 0 else 1.0
        value = rng.random() * (total + mean * unknown)
        if total == 0 and not unknown:
            return int(rng.integers(self._count))
        if value >= total and unknown:
            return int(self._unknown[rng.integers(unknown)])
        node = 1
        while node < self._leaves:
            node *= 2
            # The right side holds nothing to find where rounding leads beyond the sum.
            if value >= self._sums[node] and self._sums[node + 1] > 0:
                value -= self._sums[node]
                node += 1
        return node - self._leaves

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on: tensors."""
        doubts = self._sums[self._leaves : self._leaves + self._count]
        return {
            "doubts": torch.from_numpy(doubts.copy()),
            "unknown": torch.from_numpy(self._unknown.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called."""
        self._unknown = state["unknown"].numpy().copy()
        self._place = np.full(self._count, -1)
        self._place[self._unknown] = np.arange(len(self._unknown))
        known = np.flatnonzero(self._place < 0)
        if len(known):
            self.learn(known, state["doubts"].numpy()[known])

    def _remove(self, index: int) -> None:
        """Remove an image from those that are not known."""
        place, last = self._place[index], self._unknown[-1]
        self._unknown[place], self._place[last] = last, place
        self._place[index] = -1
        self._unknown = self._unknown[:-1]
