"""The fall of the cross-entropy."""

from torch import Tensor
from torch.nn import functional

from gfnet_env.models.base import State
from gfnet_env.rewards.base import REWARDS, Transition


@REWARDS.register("cross-entropy-gain")
def cross_entropy_gain(transition: Transition) -> Tensor:
    """The fall of the cross-entropy, log p_t(y) − log p_{t−1}(y), (B,)."""

    def cross_entropy(state: State) -> Tensor:
        return functional.cross_entropy(state.logits.float(), transition.labels, reduction="none")

    return cross_entropy(transition.before) - cross_entropy(transition.after)
