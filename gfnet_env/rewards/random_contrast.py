"""The confidence in the true class, compared with the confidence after a random look."""

import numpy as np
import torch
from torch import Tensor

from gfnet_env.randomness import uniform
from gfnet_env.rewards.base import REWARDS, Transition
from gfnet_env.settings import checked

# A separate key, so that these draws differ from a random policy's.
_STREAM = 0x636F6E74


@REWARDS.register("random-contrast")
class RandomContrast:
    """p_t(y) minus p(y) after a random look in the same state, (B,) (GFNet, section 3.3).

    As in the paper, a single random look estimates the mean over random looks; it costs one more
    call of the encoder per step. The look is drawn by (seed, image, step), so it is the same for
    every action of the policy, in a resumed run, and in another environment.

    Args:
        seed: Other seeds give other looks.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = checked("seed", seed, int)

    def __call__(self, transition: Transition) -> Tensor:
        after = transition.after
        keys = (transition.indices[:, None], after.number.cpu().numpy()[:, None], np.arange(2))
        draws = torch.from_numpy(2 * uniform(_STREAM, self.seed, *keys) - 1)
        contrast = transition.look(draws.to(after.location))
        labels = transition.labels
        return after.label_confidence(labels) - contrast.label_confidence(labels)
