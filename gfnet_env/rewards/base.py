"""Rewards: what a look was worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gfnet_env.looks import Look
from gfnet_env.models.base import State
from gfnet_env.registry import Registry


@dataclass(frozen=True)
class Transition:
    """One look at B pictures, for a reward to judge.

    Attributes:
        indices: Which images of their set they are, (B,).
        labels: True classes, (B,) int64.
        before: What was known before the look.
        after: What was known after it.
        terminated: Whether the episode ends with it, (B,) bool.
        look: What another look would have led to: from looks, or locations (B, 2) in [-1, 1], to
            the state after them instead. It may be called while the reward is computed, and does
            not change the episode.
    """

    indices: npt.NDArray[np.int64]
    labels: Tensor
    before: State
    after: State
    terminated: Tensor
    look: Callable[[Look | Tensor], State]


# From a transition to what each look was worth, (B,).
Reward = Callable[[Transition], Tensor]

REWARDS: Registry[Reward] = Registry("reward", functions_are_parts=True)


def judge(reward: Reward, transition: Transition) -> Tensor:
    """What a reward says of a transition, (B,) float64.

    Raises:
        ValueError: It says something of another shape, or a number that is not finite.
    """
    values = reward(transition)
    count = len(transition.labels)
    name = getattr(reward, "__name__", type(reward).__name__)
    if not isinstance(values, Tensor) or values.shape != (count,):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"the reward {name} must be a tensor ({count},), one per image, not {shape}"
        )
    if not bool(values.isfinite().all()):
        row = int((~values.isfinite()).nonzero()[0])
        raise ValueError(
            f"the reward {name} is {values[row].item()} for image {transition.indices[row]}; it "
            "must be finite"
        )
    return values
