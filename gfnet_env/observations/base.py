"""Observations: what a policy is shown, by the environment and by the assembled network."""

from collections.abc import Callable

import numpy as np
from gymnasium import spaces
from torch import Tensor

from gfnet_env.models.base import Model, State, blank_state
from gfnet_env.registry import Registry

# From what is known of B pictures to a dict of float32 tensors, B rows each. An attribute
# ``bounds``, a dict of (low, high), may state the range of each.
Observation = Callable[[State], dict[str, Tensor]]

OBSERVATIONS: Registry[Observation] = Registry(
    "observation", functions_are_parts=True, context=("focus_steps",)
)

# Features have no bound of their own; spaces need a finite one, which no sane network reaches.
FEATURE_BOUND = 1e6


def observation_space(observation: Observation, model: Model) -> spaces.Dict:
    """The space of one picture's observations."""
    bounds: dict[str, tuple[float, float]] = getattr(observation, "bounds", {})
    shown = observation(blank_state(model))
    return spaces.Dict(
        {
            key: spaces.Box(
                *bounds.get(key, (-FEATURE_BOUND, FEATURE_BOUND)),
                tuple(value.shape[1:]),
                np.float32,
            )
            for key, value in shown.items()
        }
    )
