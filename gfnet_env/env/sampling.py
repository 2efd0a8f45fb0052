"""Which image an episode shows."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gfnet_env.features.base import FeatureSource
from gfnet_env.images import batches
from gfnet_env.rollout import glance

Sampling = Literal["all", "uncertain"]


class ImageOrder:
    """An endless order of images, fixed by its seed.

    Args:
        count: Number of images.
        seed: Other seeds give other orders.
        weights: None to go through all images in a random order, again and again; or relative
            frequencies to draw with, (count,).
    """

    def __init__(
        self, count: int, seed: int, weights: npt.NDArray[np.float64] | None = None
    ) -> None:
        self._count = count
        self._rng = np.random.default_rng(seed)
        self._cumulative = None if weights is None else np.cumsum(weights)
        self._epoch = np.empty(0, dtype=np.int64)
        self._position = 0

    def draw(self) -> int:
        """The next image."""
        if self._cumulative is not None:
            value = self._rng.random() * self._cumulative[-1]
            index = int(np.searchsorted(self._cumulative, value, side="right"))
            return min(index, self._count - 1)
        if self._position == len(self._epoch):
            self._epoch, self._position = self._rng.permutation(self._count), 0
        self._position += 1
        return int(self._epoch[self._position - 1])

    def state_dict(self) -> dict[str, Any]:
        """All that later draws depend on: numbers, strings and tensors."""
        return {
            "generator": self._rng.bit_generator.state,
            "epoch": torch.from_numpy(self._epoch),
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called."""
        self._rng.bit_generator.state = state["generator"]
        self._epoch, self._position = state["epoch"].numpy(), state["position"]


@torch.no_grad()
def glance_uncertainty(features: FeatureSource, batch_size: int = 256) -> npt.NDArray[np.float64]:
    """1 − p_glance(y) of every image of a set, (N,): the most that looks could gain there.

    Drawing by it spends episodes on images that the glance has not settled, which have a reward.
    """
    uncertainty = [
        1 - glance(features, batch.indices).label_confidence(batch.labels).cpu().double().numpy()
        for batch in batches(features.images, batch_size, device=features.model.device)
    ]
    return np.concatenate(uncertainty)
