"""The type of exit rules, which say when to stop looking at a picture."""

from collections.abc import Callable

from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.registry import Registry

# Maps the state of B pictures to whether each exits now, (B,) bool. Pictures also exit after the
# last look, and when the policy stops.
ExitRule = Callable[[State], Tensor]

# Maps the state of B pictures to something about each, (B, ...) float32.
Signal = Callable[[State], Tensor]


def confidence(state: State) -> Tensor:
    """Probability of the most confident class, (B,)."""
    return state.confidence


EXITS: Registry[ExitRule] = Registry("exit rule", functions_are_parts=True)
