"""Actions that correct the where-map."""

from typing import Annotated

import torch
from torch import Tensor

from gfnet_env.actions.base import BoxActions
from gfnet_env.actions.registry import ACTIONS
from gfnet_env.looks import MAX_SCALE, Look
from gfnet_env.models.base import State
from gfnet_env.models.gfnet import peak_of
from gfnet_env.settings import Above, AtMost, checked


@ACTIONS.register("peak")
class PeakActions(BoxActions):
    """How far from the best window of the where-map to look, (row, column); 0 looks right there.

    A policy that emits zeros, as new ones nearly do, is the policy ``heat``: learning begins there.

    Args:
        patch_size: P of the model, in pixels.
        reach: Farthest along each axis, in sides of the window.

    Raises:
        ValueError: The reach is out of range.
    """

    chooses_scale = True

    def __init__(self, patch_size: int, reach: float = 1.0) -> None:
        reach = checked("reach", reach, Annotated[float, Above(0), AtMost(MAX_SCALE)])
        self._patch_size, self._reach = patch_size, reach
        meaning = "a (row, column) in [-1, 1] from the peak of the where-map"
        super().__init__(2, meaning, f"peak:reach={reach}")

    def looks(self, actions: Tensor, state: State) -> Look:
        peak = peak_of(state)
        side = (peak.scale * self._patch_size)[:, None]
        # From the first location to the last is as far as the window can move.
        room = (state.size - side).clamp(min=1)
        moved = peak.location + 2 * self._reach * side / room * actions
        return Look.at(torch.where(state.size > side, moved.clamp(-1, 1), 0.0), peak.scale)
