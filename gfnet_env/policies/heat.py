"""A policy without reinforcement learning: it follows the model's where-map."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from gfnet_env.looks import Look
from gfnet_env.models.base import Model, State
from gfnet_env.models.gfnet import GFNetState, GlanceFocusNetwork
from gfnet_env.policies.base import POLICIES


class PeakObservation:
    """The best window by the where-map: ``location`` (B, 2) and ``scale`` (B, 1)."""

    bounds: ClassVar = {"location": (-1, 1)}

    def __call__(self, state: State) -> dict[str, Tensor]:
        """Raises ``ValueError`` if the model has no where-map."""
        if not isinstance(state, GFNetState) or state.peak_location is None:
            raise ValueError(_NO_MAP)
        assert state.peak_scale is not None
        return {"location": state.peak_location, "scale": state.peak_scale[:, None]}


@POLICIES.register("heat")
class HeatPolicy(nn.Module):
    """The most informative window that was not seen yet, by the where-map of the network.

    What a window has shown at some scale comes last at that scale and all coarser ones (the
    inhibition of return of Itti, Koch and Niebur, 1998); see ``WhereMap``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.observation = PeakObservation()

    def check_fit(self, model: Model) -> None:
        """Raises ``ValueError`` unless the model has a where-map."""
        if not isinstance(model, GlanceFocusNetwork) or model.where is None:
            raise ValueError(_NO_MAP)

    def forward(self, observation: Mapping[str, Tensor], memory: None = None) -> tuple[Look, None]:
        """The looks, and no memory."""
        return Look.at(observation["location"], observation["scale"].squeeze(1)), None


_NO_MAP = (
    "the policy 'heat' needs a network with a where-map; train one with --windows mined, or build "
    "it with where_scales"
)
