"""The type of rewards, which say how much a look was worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gfnet_env.contracts import name_of, one_per_image
from gfnet_env.looks import Look
from gfnet_env.models.base import State
from gfnet_env.registry import Registry


@dataclass(frozen=True)
class Transition:
    """One look at B pictures: the input of a reward.

    Attributes:
        indices: Indices in the image set, (B,).
        labels: True classes, (B,) int64.
        before: State before the look.
        after: State after it.
        terminated: Whether the episode ends with it, (B,) bool.
        look: Function that maps other looks, or locations (B, 2) in [-1, 1], to the state that they
            would have led to. It does not change the episode. Only the reward may call it.
    """

    indices: npt.NDArray[np.int64]
    labels: Tensor
    before: State
    after: State
    terminated: Tensor
    look: Callable[[Look | Tensor], State]


# Maps a transition to the reward of each look, (B,).
Reward = Callable[[Transition], Tensor]

REWARDS: Registry[Reward] = Registry("reward", functions_are_parts=True)


def judge(reward: Reward, transition: Transition) -> Tensor:
    """The reward of each look of a transition, (B,).

    Raises:
        ValueError: The reward has another shape, or is not finite.
    """
    name = name_of(reward)
    values = one_per_image(reward(transition), len(transition.labels), f"the reward {name}")
    if not bool(values.isfinite().all()):
        row = int((~values.isfinite()).nonzero()[0])
        raise ValueError(
            f"the reward {name} is {values[row].item()} for image {transition.indices[row]}; it "
            "must be finite"
        )
    return values
