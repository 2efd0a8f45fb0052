"""An upper bound for policies, which tries every location and is told the class."""

from typing import Any

import torch
from torch import Tensor

from gfnet_env import rows
from gfnet_env.looks import Look, lattice
from gfnet_env.models.base import State
from gfnet_env.policies.base import POLICIES, Context

OracleMemory = dict[str, Any]


@POLICIES.register("oracle")
class OraclePolicy:
    """Looks at the location of a lattice with the highest confidence in the true class.

    It tries every location at every step, so each step costs cells² looks. It does not plan ahead.

    Args:
        cells: Number of locations along each axis.
    """

    def __init__(self, cells: int = 7) -> None:
        self.config = {"cells": cells}
        self._locations = lattice(cells)

    @staticmethod
    def observation(state: State) -> dict[str, Any]:
        """The state itself."""
        return {"state": state}

    def start(self, context: Context) -> OracleMemory:
        """Keep the context as the memory; raises ``ValueError`` if the true classes are unknown."""
        if context.labels is None:
            raise ValueError("the policy 'oracle' needs images whose true classes are known")
        return {
            "features": rows.Shared(context.features),
            "indices": torch.from_numpy(context.indices).to(context.labels.device),
            "labels": context.labels,
        }

    def __call__(
        self, observation: dict[str, Any], memory: OracleMemory
    ) -> tuple[Tensor, OracleMemory]:
        # Imported here, because ``rollout`` imports policies.
        from gfnet_env.rollout import look

        state: State = observation["state"]
        labels, features = memory["labels"], memory["features"].value
        indices = memory["indices"].cpu().numpy()
        best = torch.full_like(state.scale, -1.0)
        locations = torch.zeros_like(state.location)
        for cell in self._locations.to(locations.device):
            tried = cell.expand_as(locations)
            after = look(features, indices, Look.at(tried), state)
            confidence = after.label_confidence(labels)
            better = confidence > best
            best = torch.where(better, confidence, best)
            locations = torch.where(better[:, None], tried, locations)
        return locations, memory
