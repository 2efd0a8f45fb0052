"""Observations: what a policy is shown, by the environment and by the assembled network."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from gfnet_env.models.base import Model, State, blank_state
from gfnet_env.registry import Registry

# From the state of B pictures to a dict of float32 tensors, B rows each. An attribute ``bounds``,
# a dict of (low, high), may state the range of each.
Observation = Callable[[State], dict[str, Tensor]]

OBSERVATIONS: Registry[Observation] = Registry(
    "observation", functions_are_parts=True, context=("focus_steps",)
)

# Spaces need a finite bound, and features have none; no sane network reaches this one.
FEATURE_BOUND = 1e6


def observation_space(observation: Observation, model: Model) -> spaces.Dict:
    """The space of one picture's observations."""
    bounds: dict[str, tuple[float, float]] = getattr(observation, "bounds", {})
    parts: dict[str, spaces.Space[Any]] = {}
    for key, value in observation(blank_state(model)).items():
        low, high = bounds.get(key, (-FEATURE_BOUND, FEATURE_BOUND))
        parts[key] = spaces.Box(low, high, tuple(value.shape[1:]), np.float32)
    return spaces.Dict(parts)
