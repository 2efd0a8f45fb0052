"""Observations as vectors, for algorithms that take no dicts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor


class FlatView:
    """Converts observations to vectors, and back.

    Args:
        parts: The space of one observation, a dict of boxes; the vector keeps their order.

    Attributes:
        parts: The same as the argument.
        space: The space of one vector, (D,).
    """

    def __init__(self, parts: spaces.Dict) -> None:
        self.parts = parts
        self._shapes: dict[str, tuple[int, ...]] = {}
        bounds: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        for key, part in parts.spaces.items():
            assert isinstance(part, spaces.Box)
            self._shapes[key] = part.shape
            bounds.append((part.low.ravel(), part.high.ravel()))
        low, high = (np.concatenate(ends) for ends in zip(*bounds, strict=True))
        self.space = spaces.Box(low, high, dtype=np.float32)

    def flatten(
        self, observations: Mapping[str, npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        """Convert N observations to vectors (N, D), or one without a batch axis to (D,)."""
        flat = [
            observations[key].reshape(*observations[key].shape[: -len(shape)], math.prod(shape))
            for key, shape in self._shapes.items()
        ]
        return np.concatenate(flat, axis=-1)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Convert vectors (N, D) back to observations."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        flat = torch.split(vectors, sizes, dim=1)
        return {
            key: part.view(-1, *shape)
            for (key, shape), part in zip(self._shapes.items(), flat, strict=True)
        }
