"""What a policy is shown: one function for the environment and for the assembled network."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.perception import GlanceFocusNetwork, Step

Observation = dict[str, Tensor]

# Features have no bound of their own; spaces need a finite one, which no sane network reaches.
FEATURE_BOUND = 1e6


def observe(step: Step, focus_steps: int) -> Observation:
    """The observation of a step.

    Args:
        step: What is known of B images.
        focus_steps: The network's N, which scales the number of the step to [0, 1].

    Returns:
        ``features`` (B, C, h, w), the feature map of the latest view; ``glance`` (B, C·h·w), that
        of the glance, kept because no patch shows where else to look, and flattened because
        libraries take arrays of three dimensions for pictures; ``seen`` (B, h·w) in [0, 1], the
        most that any one patch has covered of each cell of that map; ``memory`` (B, M), the
        classifier's;
        ``location`` (B, 2) of the latest patch, zeros at the glance; ``step`` (B, 1), the focus
        steps taken as a share of the network's. All float32.
    """
    # In the layout of a numpy array, so that a policy computes the same bits here as on what the
    # environment emits.
    return {
        "features": step.feature_map.float().contiguous(),
        "glance": step.glance_map.float().flatten(1),
        "seen": step.seen.flatten(1),
        "memory": step.memory.float(),
        "location": step.location,
        "step": (step.number / focus_steps).float().unsqueeze(1),
    }


def observation_space(network: GlanceFocusNetwork) -> spaces.Dict:
    """The space of one image's observations."""

    def box(low: float, high: float, shape: tuple[int, ...]) -> spaces.Box:
        return spaces.Box(low, high, shape, np.float32)

    return spaces.Dict(
        {
            "features": box(-FEATURE_BOUND, FEATURE_BOUND, network.feature_shape),
            "glance": box(-FEATURE_BOUND, FEATURE_BOUND, (math.prod(network.feature_shape),)),
            "seen": box(0, 1, (math.prod(network.feature_shape[1:]),)),
            "memory": box(-FEATURE_BOUND, FEATURE_BOUND, (network.memory_size,)),
            "location": box(-1, 1, (2,)),
            "step": box(0, 1, (1,)),
        }
    )


class FlatView:
    """Observations as one vector each, for algorithms that take no dicts, and back.

    Args:
        parts: The space of one observation, a dict of boxes; the vector has them in its order.

    Attributes:
        parts: The same.
        space: Of one vector, (D,).
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
        """(N, D) of N observations, (D,) of one that has no batch."""
        flat = [
            observations[key].reshape(*observations[key].shape[: -len(shape)], math.prod(shape))
            for key, shape in self._shapes.items()
        ]
        return np.concatenate(flat, axis=-1)

    def split(self, vectors: Tensor) -> Observation:
        """What ``flatten`` was given, of (N, D)."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        flat = torch.split(vectors, sizes, dim=1)
        return {
            key: part.view(-1, *shape)
            for (key, shape), part in zip(self._shapes.items(), flat, strict=True)
        }
