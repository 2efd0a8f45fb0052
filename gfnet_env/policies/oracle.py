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

    It tries every location at every step, but encodes each window once: cells² windows per image,
    whose features it remembers. It does not plan ahead.

    Args:
        cells: Number of locations along each axis.
    """

    def __init__(self, cells: int = 7) -> None:
        self._locations = lattice(cells)
        self.config = {"cells": int(cells)}

    @staticmethod
    def observation(state: State) -> dict[str, Any]:
        """The state itself."""
        return {"state": state}

    def start(self, context: Context) -> OracleMemory:
        """Keep the context as the memory; raises ``ValueError`` if the true classes are unknown."""
        if context.labels is None:
            raise ValueError("the policy 'oracle' needs images whose true classes are known")
        features, count = context.features, len(context.indices)
        tried = []
        for cell in self._locations.to(features.model.device):
            looks = features.snap(Look.at(cell.expand(count, 2)))
            tried.append((looks, features.window(context.indices, looks)))
        return {"model": rows.Shared(features.model), "labels": context.labels, "tried": tried}

    def __call__(
        self, observation: dict[str, Any], memory: OracleMemory
    ) -> tuple[Tensor, OracleMemory]:
        state: State = observation["state"]
        model = memory["model"].value
        best = torch.full_like(state.scale, -1.0)
        locations = torch.zeros_like(state.location)
        for looks, features in memory["tried"]:
            confidence = model.look(features, looks, state).label_confidence(memory["labels"])
            better = confidence > best
            best = torch.where(better, confidence, best)
            locations = torch.where(better[:, None], looks.location, locations)
        return locations, memory
