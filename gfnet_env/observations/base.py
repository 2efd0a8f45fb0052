"""Observations: what the environment and the assembled network show a policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from gfnet_env.models.base import Model, State, blank_state
from gfnet_env.registry import Registry

# Maps the state of B pictures to a dict of float32 tensors, B rows each. An attribute ``bounds``, a
# dict of (low, high), may state the range of each tensor.
Observation = Callable[[State], dict[str, Tensor]]

OBSERVATIONS: Registry[Observation] = Registry(
    "observation", functions_are_parts=True, context=("focus_steps",)
)

# Spaces need finite bounds, and features have none; no sane network exceeds this bound.
FEATURE_BOUND = 1e6


def observation_space(observation: Observation, model: Model) -> spaces.Dict:
    """The space of one picture's observations."""
    bounds: dict[str, tuple[float, float]] = getattr(observation, "bounds", {})
    parts: dict[str, spaces.Space[Any]] = {}
    for key, value in observation(blank_state(model)).items():
        low, high = bounds.get(key, (-FEATURE_BOUND, FEATURE_BOUND))
        parts[key] = spaces.Box(low, high, tuple(value.shape[1:]), np.float32)
    return spaces.Dict(parts)
