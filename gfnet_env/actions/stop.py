"""Actions that may stop looking."""

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.actions.base import Actions
from gfnet_env.looks import Look
from gfnet_env.models.base import State

# New policies emit values near 0. If these values stopped, the policy would never learn to look.
_STOPS_ABOVE = 0.5

# Appended to the spec of the actions that look.
STOP = "+stop"


class WithStop(Actions):
    """Adds a stop to any actions: one more coordinate, which stops above 0.5, or one more number.

    Args:
        actions: The actions that look.
    """

    def __init__(self, actions: Actions) -> None:
        space: spaces.Box | spaces.Discrete
        if isinstance(actions.space, spaces.Discrete):
            space = spaces.Discrete(int(actions.space.n) + 1)
            how = f"or {int(actions.space.n)} to stop"
        else:
            space = spaces.Box(-1, 1, (actions.space.shape[0] + 1,), np.float32)
            how = f"and one more number: above {_STOPS_ABOVE} to stop"
        super().__init__(space, f"{actions.meaning}, {how}", f"{actions.spec}{STOP}")
        self._actions, self.chooses_scale = actions, actions.chooses_scale

    def looks(self, actions: Tensor, state: State) -> Look:
        if isinstance(self.space, spaces.Discrete):
            last = int(self.space.n) - 1
            stop, others = actions == last, actions.clamp(max=last - 1)
        else:
            stop, others = actions[:, -1] > _STOPS_ABOVE, actions[:, :-1]
        looks = self._actions.looks(others, state)
        return Look(looks.location, looks.scale, stop)

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        free = self._actions.masks(trail, taken)
        return torch.cat([free, torch.ones_like(free[:, :1])], dim=1)
