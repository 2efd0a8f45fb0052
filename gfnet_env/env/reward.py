"""Rewards: what a patch was worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.perception import Step
from gfnet_env.randomness import uniform

# A key of its own: the patches of a random policy must not be those it is rewarded against.
_STREAM = 0x636F6E74


@dataclass(frozen=True)
class Transition:
    """One focus step of B images, for a reward to judge.

    Attributes:
        indices: Which images of their set they are, (B,).
        labels: True classes, (B,) int64.
        before: The step before the patch.
        after: The step after it.
        terminated: Whether the episode ends with it, (B,) bool.
        look: What another patch would have led to: from locations (B, 2) in [-1, 1] to the step
            after them instead, as long as the reward is being computed. The episode itself does
            not change.
    """

    indices: npt.NDArray[np.int64]
    labels: Tensor
    before: Step
    after: Step
    terminated: Tensor
    look: Callable[[Tensor], Step]


Reward = Callable[[Transition], Tensor]


def confidence_gain(transition: Transition) -> Tensor:
    """p_t(y) − p_{t−1}(y), (B,): the rise of the confidence in the true class.

    ``RandomContrast`` has the same best policy where the discount is zero.
    """
    labels = transition.labels
    after = transition.after.label_confidence(labels)
    return after - transition.before.label_confidence(labels)


class RandomContrast:
    """p_t(y) less that after a random patch in the same state, (B,) (GFNet, section 3.3).

    The paper estimates the mean over random patches by one of them, and so is it done here, at the
    price of one more call of the local encoder each step. The patch is drawn by (seed, image,
    step): what is subtracted is the same whatever the policy does in that state, and a run that
    goes on, or another environment, has the same rewards.

    Args:
        seed: Other seeds give other patches.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, transition: Transition) -> Tensor:
        after = transition.after
        keys = (transition.indices[:, None], after.number.cpu().numpy()[:, None], np.arange(2))
        draws = torch.from_numpy(2 * uniform(_STREAM, self.seed, *keys) - 1)
        contrast = transition.look(draws.to(after.location))
        labels = transition.labels
        return after.label_confidence(labels) - contrast.label_confidence(labels)


def cross_entropy_gain(transition: Transition) -> Tensor:
    """The fall of the cross-entropy, log p_t(y) − log p_{t−1}(y), (B,)."""

    def cross_entropy(step: Step) -> Tensor:
        return functional.cross_entropy(step.logits.float(), transition.labels, reduction="none")

    return cross_entropy(transition.before) - cross_entropy(transition.after)


def sparse(transition: Transition) -> Tensor:
    """1 where an episode ends with the right class, else 0, (B,) float32."""
    right = transition.after.classes == transition.labels
    return (right & transition.terminated).float()


REWARDS: dict[str, Reward] = {
    "confidence-gain": confidence_gain,
    "random-contrast": RandomContrast(),
    "cross-entropy-gain": cross_entropy_gain,
    "sparse": sparse,
}


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
