"""Policies that do not look: random patches, the centre, and fixed orders of places."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.perception.geometry import lattice
from gfnet_env.policies.base import Scene
from gfnet_env.randomness import uniform


class DrawnPolicy(ABC):
    """Locations that are drawn by (seed, image, step).

    The image counts by its index in its set where the scene is known, else by its row in the batch
    at the glance; so a batch from which some images leave changes nothing for the others.

    Args:
        seed: Other seeds give other patches.
    """

    def __init__(self, seed: int) -> None:
        self.config: dict[str, Any] = {"seed": seed}

    @abstractmethod
    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Locations (B, 2) in [-1, 1] for uniform numbers (B, 2) in [0, 1)."""

    def start(self, scene: Scene) -> Tensor:
        return torch.from_numpy(scene.indices).to(scene.pixels.device)

    def __call__(self, observation: Observation, state: Tensor | None) -> tuple[Tensor, Tensor]:
        progress = observation["step"]
        images = torch.arange(len(progress), device=progress.device) if state is None else state
        # Steps are keyed by their share of the whole, which is what an observation shows of them.
        steps = (progress.squeeze(1).cpu().numpy() * 2**20).round().astype(np.int64)
        draws = uniform(
            self.config["seed"], images.cpu().numpy()[:, None], steps[:, None], np.arange(2)
        )
        return torch.from_numpy(self.place(draws)).float().to(progress.device), images


class RandomPolicy(DrawnPolicy):
    """Uniformly random locations, drawn as ``DrawnPolicy`` says.

    Args:
        seed: Other seeds give other patches.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)

    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 2 * draws - 1


class GaussianPolicy(DrawnPolicy):
    """Locations about the centre, normally distributed, drawn as ``DrawnPolicy`` says.

    Args:
        std: Standard deviation along each axis, on [-1, 1]; what falls beyond an edge is taken as
            the edge.
        seed: Other seeds give other patches.

    Raises:
        ValueError: The standard deviation is not positive.
    """

    name = "gaussian"

    def __init__(self, std: float = 0.5, seed: int = 0) -> None:
        if not std > 0:
            raise ValueError(f"std must be positive, not {std}")
        super().__init__(seed)
        self.config["std"] = std

    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (self.config["std"] * special.ndtri(draws)).clip(-1, 1)


class FixedOrder:
    """The same locations for every image, one after the other and then from the first again.

    Args:
        locations: (S, 2) in [-1, 1].
    """

    def __init__(self, locations: Tensor) -> None:
        self.config: dict[str, Any] = {}
        self._locations = locations

    def __call__(self, observation: Observation, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Locations (B, 2), and how many each image has had, (B,) int64."""
        latest = observation["location"]
        taken = torch.zeros(len(latest), dtype=torch.int64, device=latest.device)
        taken = taken if state is None else state
        return self._locations.to(latest.device)[taken % len(self._locations)], taken + 1


class CenterPolicy(FixedOrder):
    """Always the patch at the centre of the image."""

    name = "center"

    def __init__(self) -> None:
        super().__init__(torch.zeros(1, 2))


class CenterThenCornersPolicy(FixedOrder):
    """The centre, then the corners row by row (an ablation of GFNet, section 4)."""

    name = "center-then-corners"

    def __init__(self) -> None:
        super().__init__(torch.cat([torch.zeros(1, 2), lattice(2)]))


class GridPolicy(FixedOrder):
    """The locations of a lattice, row by row.

    Args:
        cells: Locations along each axis.

    Raises:
        ValueError: There are no cells.
    """

    name = "grid"

    def __init__(self, cells: int = 3) -> None:
        super().__init__(lattice(cells))
        self.config["cells"] = cells
