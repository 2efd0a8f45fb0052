"""The confidence in the true class, less that after a random look."""

import numpy as np
import torch
from torch import Tensor

from gfnet_env.randomness import uniform
from gfnet_env.rewards.base import REWARDS, Transition

# Keeps these draws apart from those of a random policy.
_STREAM = 0x636F6E74


@REWARDS.register("random-contrast")
class RandomContrast:
    """p_t(y) less that after a random look in the same state, (B,) (GFNet, section 3.3).

    Like the paper, this estimates the mean over random looks by one of them, at the cost of one
    more call of the encoder each step. The look is drawn by (seed, image, step), so it is the same
    whatever the policy does in that state, in a resumed run, and in another environment.

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
