"""An observation of the best window of the where-map, for policies that correct it."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState, peak_of
from gfnet_env.observations.base import OBSERVATIONS
from gfnet_env.settings import AtLeast, AtMost, checked

# No map of a glance has more.
_MOST_CELLS = 999


@OBSERVATIONS.register("peak")
class PeakObservation:
    """What is known about the place where the where-map would look next.

    ``around`` (B, S + C', side, side) is the map and the features of the glance in the cells around
    that place, zero beyond the picture. ``heat`` (B, S) in [0, 1] is the map's best at each scale.
    ``memory`` (B, M) is the classifier's. ``peak`` (B, 2) is the location of that place,
    ``location`` (B, 2) that of the latest look, zeros at the glance; ``step`` (B, 1) the number of
    looks as a share of N; ``scale`` (B, 1) one over the scale of the window there.

    Args:
        focus_steps: N of the network.
        side: Cells along each axis, odd, at most 999.

    Raises:
        ValueError: The side is even, or out of range.
    """

    bounds: ClassVar = {
        "heat": (0, 1),
        "peak": (-1, 1),
        "location": (-1, 1),
        "step": (0, 1),
        "scale": (0, 1),
    }

    def __init__(self, focus_steps: int, side: int = 5) -> None:
        self.focus_steps = checked("focus_steps", focus_steps, Annotated[int, AtLeast(1)])
        self.side = checked("side", side, Annotated[int, AtLeast(1), AtMost(_MOST_CELLS)])
        if self.side % 2 == 0:
            raise ValueError(f"side must be odd, not {side}")
        self.config = {"focus_steps": self.focus_steps, "side": self.side}

    def __call__(self, state: State) -> dict[str, Tensor]:
        """Raises ``ValueError`` if the model has no where-map."""
        peak = peak_of(state)
        assert isinstance(state, GFNetState)
        assert state.heat is not None
        heat = state.heat.sigmoid()
        return {
            "around": self._around(state, heat),
            "heat": heat.flatten(2).amax(dim=2),
            "memory": state.memory.float(),
            "peak": peak.location,
            "location": state.location,
            "step": (state.number / self.focus_steps).float().unsqueeze(1),
            "scale": (1 / peak.scale).unsqueeze(1),
        }

    def _around(self, state: GFNetState, heat: Tensor) -> Tensor:
        maps = torch.cat([heat, state.glance_map.float()], dim=1)
        reach, width = self.side // 2, maps.shape[3]
        padded = functional.pad(maps, (reach,) * 4)
        cell = heat.flatten(1).argmax(dim=1) % heat.shape[2:].numel()
        step = torch.arange(self.side, device=cell.device)
        rows = (cell // width)[:, None] + step
        columns = (cell % width)[:, None] + step
        each = torch.arange(len(cell), device=cell.device)
        return padded.permute(0, 2, 3, 1)[
            each[:, None, None], rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)
