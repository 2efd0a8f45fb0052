"""The default observation of a GFNet: its maps, its memory, and where it has looked."""

from typing import ClassVar

from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState
from gfnet_env.observations.base import OBSERVATIONS


@OBSERVATIONS.register("maps")
class MapsObservation:
    """What a GFNet knows of a picture.

    ``features`` (B, C, h, w) is the feature map of the latest view. ``glance`` (B, C·h·w) is that
    of the glance, since no window shows where else to look; it is flattened because libraries take
    arrays of three dimensions for pictures. ``seen`` (B, h·w) in [0, 1] is the largest share of
    each cell that one window has covered. ``memory`` (B, M) is the classifier's. ``location``
    (B, 2) is that of the latest look, zeros at the glance; ``step`` (B, 1) the number of looks as a
    share of N; ``scale`` (B, 1) one over the scale of the latest look.

    Args:
        focus_steps: N of the network.
        scale: Whether ``scale`` is shown, for looks that differ in it.
    """

    bounds: ClassVar = {"seen": (0, 1), "location": (-1, 1), "step": (0, 1), "scale": (0, 1)}

    def __init__(self, focus_steps: int, scale: bool = False) -> None:
        self.focus_steps = focus_steps
        self.scale = scale
        self.config = {"focus_steps": focus_steps, "scale": scale}

    def __call__(self, state: State) -> dict[str, Tensor]:
        if not isinstance(state, GFNetState):
            raise TypeError(
                f"the observation 'maps' is of a GFNet's state, not of a {type(state).__name__}: "
                "give the environment an observation of your own"
            )
        if state.glance_map.shape != state.feature_map.shape:
            raise ValueError(
                "the observation 'maps' shows glances and windows alike, but this network has "
                "other maps of glances; take the observation 'peak'"
            )
        # In the memory layout of the environment's arrays, so that policies compute the same bits.
        shown = {
            "features": state.feature_map.float().contiguous(),
            "glance": state.glance_map.float().flatten(1),
            "seen": state.seen.flatten(1),
            "memory": state.memory.float(),
            "location": state.location,
            "step": (state.number / self.focus_steps).float().unsqueeze(1),
        }
        if self.scale:
            shown["scale"] = (1 / state.scale).unsqueeze(1)
        return shown
