"""Observations: what the environment and the assembled network show a policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.contracts import described, name_of
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


def observe(observation: Observation, state: State) -> dict[str, Tensor]:
    """What an observation shows of B pictures.

    Raises:
        ValueError: It is not a dict of finite float32 tensors with B rows each.
    """
    shown = observation(state)
    who = f"the observation {name_of(observation)}"
    if not isinstance(shown, dict) or not shown:
        found = "an empty one" if shown == {} else described(shown)
        raise ValueError(f"{who} must be a dict of tensors, not {found}")
    for key, value in shown.items():
        if not isinstance(key, str):
            raise ValueError(f"the names of {who} must be text, not {key!r}")
        fits = isinstance(value, Tensor) and value.shape[:1] == (len(state),)
        if not fits or value.dtype != torch.float32:
            raise ValueError(
                f"{key!r} of {who} must be a float32 tensor with a row for each of {len(state)} "
                f"pictures, not {described(value)}"
            )
    # One question to the device for all of them.
    if not torch.stack([value.sum() for value in shown.values()]).sum().isfinite():
        key = next(key for key, value in shown.items() if not value.isfinite().all())
        raise ValueError(f"{key!r} of {who} has values that are not finite; it must show numbers")
    return shown


def observation_space(observation: Observation, model: Model) -> spaces.Dict:
    """The space of one picture's observations."""
    bounds: dict[str, tuple[float, float]] = getattr(observation, "bounds", {})
    parts: dict[str, spaces.Space[Any]] = {}
    # Two pictures, so that an observation of another number of rows is found now.
    for key, value in observe(observation, blank_state(model, 2)).items():
        low, high = bounds.get(key, (-FEATURE_BOUND, FEATURE_BOUND))
        parts[key] = spaces.Box(low, high, tuple(value.shape[1:]), np.float32)
    return spaces.Dict(parts)
