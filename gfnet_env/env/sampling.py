"""Choose the image of each episode."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.arrays import as_array
from gfnet_env.env.doubt import Doubt
from gfnet_env.features.base import FeatureSource
from gfnet_env.images import batches
from gfnet_env.models.base import State
from gfnet_env.randomness import permuted
from gfnet_env.rollout import glance

Sampling = Literal["all", "uncertain", "uncertain-full"]


# Images whose places in an order are looked up at once.
_BLOCK = 1024


class ImageOrder:
    """An endless order of images, fixed by its seed, in memory that does not grow with the set.

    Args:
        count: Number of images.
        seed: Other seeds give other orders.
        doubt: None to go through all images in a random order, again and again; or what to draw in
            proportion to.
    """

    def __init__(self, count: int, seed: int, doubt: Doubt | None = None) -> None:
        self._count, self._doubt = count, doubt
        self._rng = np.random.default_rng(seed)
        self._key, self._position = 0, count
        self._block: list[int] = []

    def draw(self) -> int:
        """The next image."""
        if self._doubt is not None:
            return self._doubt.draw(self._rng)
        if self._position == self._count:
            self._key, self._position = int(self._rng.integers(2**63)), 0
        if self._position % _BLOCK == 0:
            self._block = self._upcoming()
        self._position += 1
        return self._block[(self._position - 1) % _BLOCK]

    def _upcoming(self) -> list[int]:
        """The images of the block that holds the position."""
        first = self._position - self._position % _BLOCK
        places = np.arange(first, min(first + _BLOCK, self._count))
        return permuted(places, self._count, self._key).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on: numbers and strings."""
        return {
            "generator": self._rng.bit_generator.state,
            "key": self._key,
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called."""
        self._rng.bit_generator.state = state["generator"]
        self._key, self._position = state["key"], state["position"]
        self._block = self._upcoming()


class ImageOrders:
    """The next image of each sub-environment: a requested one, or else the next of its own order.

    Args:
        features: Features of the images.
        count: Number of sub-environments.
        sampling: How often each image is drawn, see ``GlanceFocusVectorEnv``.
    """

    def __init__(self, features: FeatureSource, count: int, sampling: Sampling) -> None:
        self._features, self._count, self._sampling = features, count, sampling
        self._doubt = None if sampling == "all" else Doubt(len(features.images))
        self._orders: list[ImageOrder] = []
        self._requested: deque[int] = deque()

    def seed(self, seeds: Mapping[int, int], rng: np.random.Generator) -> None:
        """Give sub-environments the orders of their seeds; at first, ``rng`` seeds the others."""
        if not self._orders:
            if self._doubt is not None and self._sampling == "uncertain-full":
                glance_at_all(self._features, self._doubt)
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

    def saw(self, indices: npt.NDArray[np.int64], labels: Tensor, state: State) -> None:
        """Take note of the state after a glance at images (B,) with labels (B,)."""
        if self._doubt is not None:
            self._doubt.learn(indices, _doubts(labels, state))

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on: numbers, strings and tensors."""
        return {
            "images": len(self._features.images),
            "doubt": None if self._doubt is None else self._doubt.state_dict(),
            "orders": [order.state_dict() for order in self._orders],
            "requested": list(self._requested),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called.

        Raises:
            ValueError: The state has other numbers of images or sub-environments.
        """
        count = len(self._features.images)
        if state["images"] != count:
            raise ValueError(f"the state is from {state['images']} images, not {count}")
        if len(state["orders"]) != self._count:
            raise ValueError(
                f"the state has {len(state['orders'])} sub-environments, not {self._count}"
            )
        if self._doubt is not None:
            self._doubt.load_state_dict(state["doubt"])
        self._orders = [self._order(0) for _ in range(self._count)]
        for order, saved in zip(self._orders, state["orders"], strict=True):
            order.load_state_dict(saved)
        self.request(state["requested"])

    def _order(self, seed: int) -> ImageOrder:
        return ImageOrder(len(self._features.images), seed, self._doubt)


@torch.no_grad()
def glance_at_all(features: FeatureSource, doubt: Doubt, batch_size: int = 256) -> None:
    """Make known what the glances at all images of a set leave open."""
    for batch in batches(features.images, batch_size, device=features.model.device):
        state = glance(features, batch.indices)
        doubt.learn(batch.indices, _doubts(batch.labels, state))


def _doubts(labels: Tensor, state: State) -> npt.NDArray[np.float64]:
    return 1 - state.label_confidence(labels).cpu().double().numpy()
