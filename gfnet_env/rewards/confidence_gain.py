"""The rise of the confidence in the true class."""

from torch import Tensor

from gfnet_env.rewards.base import REWARDS, Transition


@REWARDS.register("confidence-gain")
def confidence_gain(transition: Transition) -> Tensor:
    """p_t(y) − p_{t−1}(y), (B,): the rise of the confidence in the true class.

    With gamma = 0, the best policy is the same as with ``RandomContrast``.
    """
    labels = transition.labels
    after = transition.after.label_confidence(labels)
    return after - transition.before.label_confidence(labels)
