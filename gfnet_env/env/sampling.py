"""Choose the image of each episode."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gfnet_env.arrays import as_array
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
        """Everything that later draws depend on: numbers, strings and tensors."""
        return {
            "generator": self._rng.bit_generator.state,
            "epoch": torch.from_numpy(self._epoch),
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called."""
        self._rng.bit_generator.state = state["generator"]
        self._epoch, self._position = state["epoch"].numpy(), state["position"]


class ImageOrders:
    """The next image of each sub-environment: a requested one, or else the next of its own order.

    Args:
        features: Features of the images.
        count: Number of sub-environments.
        sampling: How often each image is drawn, see ``GlanceFocusVectorEnv``.

    Attributes:
        weights: Relative frequencies of the images. None if all are equally likely, and before the
            first order is made.
    """

    def __init__(self, features: FeatureSource, count: int, sampling: Sampling) -> None:
        self._features, self._count, self._sampling = features, count, sampling
        self.weights: npt.NDArray[np.float64] | None = None
        self._orders: list[ImageOrder] = []
        self._requested: deque[int] = deque()

    def seed(self, seeds: Mapping[int, int], rng: np.random.Generator) -> None:
        """Give sub-environments the orders of their seeds; at first, ``rng`` seeds the others."""
        if not self._orders:
            drawn = rng.integers(2**31, size=self._count).tolist()
            self._orders = [self._order(seed) for seed in drawn]
        for row, seed in seeds.items():
            self._orders[row] = self._order(seed)
            self._requested.clear()

    def checked(self, indices: npt.ArrayLike) -> list[int]:
        """Images to request; raises an error that names one that cannot exist."""
        array, count = as_array(indices, "indices").ravel(), len(self._features.images)
        if len(array) and array.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers, not {array.dtype}")
        outside = array[(array < 0) | (array >= count)]
        if len(outside):
            raise IndexError(f"image {outside[0]} does not exist: this set has {count} images")
        return array.tolist()

    def request(self, indices: Sequence[int]) -> None:
        """Show these before those of the orders, and drop earlier requests."""
        self._requested = deque(indices)

    def draw(self, row: int) -> int:
        """The next image of a sub-environment."""
        return self._requested.popleft() if self._requested else self._orders[row].draw()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on: numbers, strings and tensors."""
        return {
            "orders": [order.state_dict() for order in self._orders],
            "requested": list(self._requested),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called.

        Raises:
            ValueError: The state has another number of sub-environments.
        """
        if len(state["orders"]) != self._count:
            raise ValueError(
                f"the state has {len(state['orders'])} sub-environments, not {self._count}"
            )
        self._orders = [self._order(0) for _ in range(self._count)]
        for order, saved in zip(self._orders, state["orders"], strict=True):
            order.load_state_dict(saved)
        self.request(state["requested"])

    def _order(self, seed: int) -> ImageOrder:
        if self._sampling == "uncertain" and self.weights is None:
            weights = glance_uncertainty(self._features)
            # If no glance leaves any doubt, all images are equally likely.
            self.weights = weights if weights.sum() > 0 else np.ones_like(weights)
        return ImageOrder(len(self._features.images), seed, self.weights)


@torch.no_grad()
def glance_uncertainty(features: FeatureSource, batch_size: int = 256) -> npt.NDArray[np.float64]:
    """1 − p_glance(y) of every image of a set, (N,): the most that looks could gain.

    Sampling in proportion to it spends episodes on images that the glance leaves uncertain, where
    looks can still earn a reward.
    """
    uncertainty = [
        1 - glance(features, batch.indices).label_confidence(batch.labels).cpu().double().numpy()
        for batch in batches(features.images, batch_size, device=features.model.device)
    ]
    return np.concatenate(uncertainty)
