"""Actions that are locations."""

from torch import Tensor

from gfnet_env.actions.base import BoxActions
from gfnet_env.actions.registry import ACTIONS
from gfnet_env.looks import Look
from gfnet_env.models.base import State


@ACTIONS.register("continuous")
class ContinuousActions(BoxActions):
    """The action is the location, (row, column)."""

    def __init__(self) -> None:
        super().__init__(2, "a (row, column) in [-1, 1]", "continuous")

    def looks(self, actions: Tensor, state: State) -> Look:
        return Look.at(actions)
