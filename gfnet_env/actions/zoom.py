"""Actions that choose the scale of a look as well as its location."""

from typing import Annotated

import torch
from torch import Tensor

from gfnet_env.actions.base import BoxActions
from gfnet_env.actions.registry import ACTIONS
from gfnet_env.looks import MAX_SCALE, Look
from gfnet_env.models.base import State
from gfnet_env.settings import Above, AtMost, checked


@ACTIONS.register("zoom")
class ZoomActions(BoxActions):
    """A location and a scale: (row, column, zoom), each in [-1, 1].

    The zoom goes from the largest scale at -1 to full resolution at 1, linearly in the logarithm of
    the scale.

    Args:
        patch_size: P of the model, in pixels.
        max_scale: Largest side of a window, in multiples of P, above 1; a window larger than the
            picture shows all of it. None zooms out to the whole of each picture.

    Raises:
        ValueError: The scale is out of range.
    """

    chooses_scale = True

    def __init__(self, patch_size: int, max_scale: float | None = None) -> None:
        limits = Annotated[float | None, Above(1), AtMost(MAX_SCALE)]
        max_scale = checked("max_scale", max_scale, limits)
        self._patch_size, self._max_scale = patch_size, max_scale
        spec = "zoom" if max_scale is None else f"zoom:max_scale={max_scale}"
        super().__init__(3, "a (row, column, zoom) in [-1, 1]", spec)

    def looks(self, actions: Tensor, state: State) -> Look:
        largest = state.size.amax(dim=1) / self._patch_size
        if self._max_scale is not None:
            largest = torch.full_like(largest, self._max_scale)
        scale = (largest.log() * (1 - actions[:, 2]) / 2).exp()
        # Rounding must not give a scale below 1.
        return Look.at(actions[:, :2], scale.clamp(min=1))
