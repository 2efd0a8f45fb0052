"""Actions that are locations."""

import numpy as np
from gymnasium import spaces
from torch import Tensor

from gfnet_env.actions.base import ACTIONS
from gfnet_env.looks import Look
from gfnet_env.models.base import State


class BoxActions:
    """Base of actions in a Box."""

    space: spaces.Box
    chooses_scale = False

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        raise ValueError("continuous actions have no masks; make the environment with 'grid' ones")


@ACTIONS.register("continuous")
class ContinuousActions(BoxActions):
    """A location itself, (row, column)."""

    spec = "continuous"
    meaning = "a (row, column) in [-1, 1]"

    def __init__(self) -> None:
        self.space = spaces.Box(-1, 1, (2,), np.float32)

    def looks(self, actions: Tensor, state: State) -> Look:
        return Look.at(actions)
