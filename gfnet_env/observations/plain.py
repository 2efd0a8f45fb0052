"""An observation for any model: how often and where it has looked."""

from typing import ClassVar

from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.observations.base import OBSERVATIONS


@OBSERVATIONS.register("plain")
class PlainObservation:
    """``number`` of looks (B, 1), ``location`` (B, 2) and ``scale`` (B, 1) of the latest look."""

    bounds: ClassVar = {"location": (-1, 1)}

    def __init__(self) -> None:
        self.config: dict[str, int] = {}

    def __call__(self, state: State) -> dict[str, Tensor]:
        return {
            "number": state.number.float().unsqueeze(1),
            "location": state.location,
            "scale": state.scale.unsqueeze(1),
        }
