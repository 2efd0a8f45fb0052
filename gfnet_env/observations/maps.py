"""The default observation of a GFNet: its feature maps, its memory, and where it has looked."""

from typing import Annotated, ClassVar

from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState
from gfnet_env.observations.base import OBSERVATIONS
from gfnet_env.settings import AtLeast, checked


@OBSERVATIONS.register("maps")
class MapsObservation:
    """What a GFNet knows about a picture.

    ``features`` (B, C, h, w) is the feature map of the latest view. ``glance`` (B, C·h·w) is the
    feature map of the glance, which shows where else to look, as no window does. It is flattened
    because libraries mistake arrays of three dimensions for pictures. ``seen`` (B, h·w) in [0, 1]
    is the largest share of each cell of the glance map that a single window has covered. ``memory``
    (B, M) is the classifier's memory. ``location`` (B, 2) is the location of the latest look, zeros
    at the glance. ``step`` (B, 1) is the number of looks taken, divided by N. ``scale`` (B, 1) is
    one over the scale of the latest look.

    Args:
        focus_steps: N, the network's number of looks.
        scale: Whether to show ``scale``, for looks of different scales.
    """

    bounds: ClassVar = {"seen": (0, 1), "location": (-1, 1), "step": (0, 1), "scale": (0, 1)}

    def __init__(self, focus_steps: int, scale: bool = False) -> None:
        self.focus_steps = checked("focus_steps", focus_steps, Annotated[int, AtLeast(1)])
        self.scale = checked("scale", scale, bool)
        self.config = {"focus_steps": self.focus_steps, "scale": self.scale}

    def __call__(self, state: State) -> dict[str, Tensor]:
        if not isinstance(state, GFNetState):
            raise TypeError(
                f"the observation 'maps' needs the state of a GFNet, not a {type(state).__name__}: "
                "give the environment an observation of your own"
            )
        if state.glance_map.shape != state.feature_map.shape:
            raise ValueError(
                "the observation 'maps' shows glances and windows alike, but this network has "
                "other maps for glances; take the observation 'peak'"
            )
        shown = {
            "features": state.feature_map.float(),
            "glance": state.glance_map.float().flatten(1),
            "seen": state.seen.flatten(1),
            "memory": state.memory.float(),
            "location": state.location,
            "step": (state.number / self.focus_steps).float().unsqueeze(1),
        }
        if self.scale:
            shown["scale"] = (1 / state.scale).unsqueeze(1)
        return shown
