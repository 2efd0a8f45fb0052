"""Policies that ignore the picture: the same locations for every picture."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gfnet_env.looks import Look, Scale, lattice
from gfnet_env.observations import PlainObservation
from gfnet_env.policies.base import POLICIES
from gfnet_env.settings import checked


class FixedOrder:
    """The same locations for every picture, in a fixed order, repeated.

    Args:
        locations: (S, 2) in [-1, 1].
        scale: Scale of all looks, at least 1.

    Raises:
        ValueError: The scale is out of range.
    """

    def __init__(self, locations: Tensor, scale: float) -> None:
        self.config: dict[str, Any] = {"scale": checked("scale", scale, Scale)}
        self.observation = PlainObservation()
        self._locations = locations

    def __call__(self, observation: Mapping[str, Tensor], memory: None) -> tuple[Look, None]:
        number = observation["number"].squeeze(1).long()
        location = self._locations.to(number.device)[number % len(self._locations)]
        scale = location.new_full((len(location),), self.config["scale"])
        return Look.at(location, scale), None


@POLICIES.register("center")
class CenterPolicy(FixedOrder):
    """Always the centre of the picture."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(lattice(1), scale)


@POLICIES.register("center-then-corners")
class CenterThenCornersPolicy(FixedOrder):
    """The centre, then the corners row by row (an ablation of GFNet, section 4)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(torch.cat([lattice(1), lattice(2)]), scale)


@POLICIES.register("grid")
class GridPolicy(FixedOrder):
    """The locations of a lattice, row by row.

    Args:
        cells: Locations along each axis.
        scale: Scale of all looks.

    Raises:
        ValueError: ``cells`` is below 1.
    """

    def __init__(self, cells: int = 3, scale: float = 1.0) -> None:
        super().__init__(lattice(cells), scale)
        self.config["cells"] = int(cells)
