"""The confidence above that after a random look."""

import numpy as np
import torch
from torch import Tensor

from gfnet_env.randomness import uniform
from gfnet_env.rewards.base import REWARDS, Transition

# A key of its own: the windows of a random policy must not be those it is rewarded against.
_STREAM = 0x636F6E74


@REWARDS.register("random-contrast")
class RandomContrast:
    """p_t(y) less that after a random look in the same state, (B,) (GFNet, section 3.3).

    The paper estimates the mean over random looks by one of them, and so is it done here, at the
    price of one more call of the encoder each step. The look is drawn by (seed, image, step): what
    is subtracted is the same whatever the policy does in that state, and a run that goes on, or
    another environment, has the same rewards.

    Args:
        seed: Other seeds give other looks.
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
