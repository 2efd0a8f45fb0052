"""An upper bound for policies, which is told where the object is."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gfnet_env.looks import centred_locations
from gfnet_env.observations import PlainObservation
from gfnet_env.policies.base import POLICIES, Context


@POLICIES.register("target")
class TargetPolicy:
    """Looks at a window centred on the object, at every step."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.observation = PlainObservation()

    def start(self, context: Context) -> Tensor:
        """The locations of the objects, (B, 2); raises ``ValueError`` if they are unknown."""
        if context.boxes is None:
            raise ValueError(
                "the policy 'target' needs images whose objects' places are known (boxes)"
            )
        boxes = context.boxes
        sizes = context.features.images.sizes(context.indices).to(boxes.device)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        return centred_locations(centres, sizes, context.model.view.size)

    def __call__(self, observation: Mapping[str, Tensor], memory: Tensor) -> tuple[Tensor, Tensor]:
        return memory, memory
