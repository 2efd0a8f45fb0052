"""A policy without reinforcement learning: it follows the model's where-map."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gfnet_env.looks import Look
from gfnet_env.models.base import Model, State
from gfnet_env.models.gfnet import NO_WHERE_MAP, peak_of
from gfnet_env.policies.base import POLICIES


def _peak(state: State) -> dict[str, Tensor]:
    """The best window by the where-map: ``location`` (B, 2) and ``scale`` (B, 1)."""
    peak = peak_of(state)
    return {"location": peak.location, "scale": peak.scale[:, None]}


@POLICIES.register("heat")
class HeatPolicy(nn.Module):
    """The most informative window that was not seen yet, by the where-map of the network.

    What a window has shown at some scale comes last at that scale and all coarser ones (the
    inhibition of return of Itti, Koch and Niebur, 1998); see ``WhereMap``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.observation = _peak

    def check_fit(self, model: Model) -> None:
        """Raises ``ValueError`` unless the model has a where-map."""
        if getattr(model, "where", None) is None:
            raise ValueError(NO_WHERE_MAP)

    def forward(self, observation: Mapping[str, Tensor], memory: None = None) -> tuple[Look, None]:
        """The looks, and no memory."""
        return Look.at(observation["location"], observation["scale"].squeeze(1)), None
