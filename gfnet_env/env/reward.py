"""Rewards: what a patch was worth."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gfnet_env.perception import Step


@dataclass(frozen=True)
class Transition:
    """One focus step of B images, for a reward to judge.

    Attributes:
        labels: True classes, (B,) int64.
        before: The step before the patch.
        after: The step after it.
        terminated: Whether the episode ends with it, (B,) bool.
        look: What another patch would have led to: from locations (B, 2) in [-1, 1] to the step
            after them instead, as long as the reward is being computed. The episode itself does
            not change.
    """

    labels: Tensor
    before: Step
    after: Step
    terminated: Tensor
    look: Callable[[Tensor], Step]


Reward = Callable[[Transition], Tensor]


def confidence_gain(transition: Transition) -> Tensor:
    """p_t(y) − p_{t−1}(y), (B,): the rise of the confidence in the true class.

    GFNet (section 3.3) subtracts the confidence of a random patch instead; both have the same best
    policy where the discount is zero.
    """
    labels = transition.labels
    after = transition.after.label_confidence(labels)
    return after - transition.before.label_confidence(labels)


REWARDS: dict[str, Reward] = {"confidence-gain": confidence_gain}


def resolve_reward(reward: str | Reward) -> Reward:
    """A reward by name, or a user's own as it is.

    Raises:
        ValueError: There is no reward of that name.
    """
    if not isinstance(reward, str):
        return reward
    if reward not in REWARDS:
        raise ValueError(f"unknown reward {reward!r}; known: {', '.join(REWARDS)}")
    return REWARDS[reward]
