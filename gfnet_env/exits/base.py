"""Exit rules: when enough is known of a picture."""

from collections.abc import Callable

from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.registry import Registry

# From the state of B pictures to which of them exit now, (B,) bool. Besides, pictures exit after
# the last look, and when the policy stops.
ExitRule = Callable[[State], Tensor]

EXITS: Registry[ExitRule] = Registry("exit rule", functions_are_parts=True)
