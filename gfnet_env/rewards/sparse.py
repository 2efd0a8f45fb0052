"""Whether the final answer was right."""

from torch import Tensor

from gfnet_env.rewards.base import REWARDS, Transition


@REWARDS.register("sparse")
def sparse(transition: Transition) -> Tensor:
    """1 if the episode ends with the right class, else 0, (B,) float32."""
    right = transition.after.classes == transition.labels
    return (right & transition.terminated).float()
