"""Policies that ignore the picture: random looks, drawn by (seed, image, step)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.looks import Look, Scale
from gfnet_env.observations import PlainObservation
from gfnet_env.policies.base import POLICIES, Context
from gfnet_env.randomness import uniform
from gfnet_env.settings import Above, checked

DrawnMemory = dict[str, Tensor]


def drawn_memory(context: Context) -> DrawnMemory:
    """The keys of random draws: the index of each image and the model's N, (B,) each."""
    images = torch.from_numpy(context.indices).to(context.model.device)
    return {"images": images, "looks": torch.full_like(images, context.model.focus_steps)}


def draw(
    keys: tuple[int, ...], observation: Mapping[str, Tensor], memory: DrawnMemory, count: int
) -> Tensor:
    """Draw uniform numbers in [0, 1), (B, count) float64, by keys, image and step."""
    number = observation["number"].squeeze(1)
    # The key of a step is the step divided by N.
    share = (number / memory["looks"]).float().cpu().numpy()
    steps = (share * 2**20).round().astype(np.int64)
    images = memory["images"].cpu().numpy()
    drawn = uniform(*keys, images[:, None], steps[:, None], np.arange(count))
    return torch.from_numpy(drawn)


class DrawnPolicy(ABC):
    """Random looks, drawn by (seed, image, step), regardless of the rest of the batch.

    Args:
        seed: Other seeds give other looks.
        max_scale: Largest scale. Scales from 1 to this are drawn uniformly in the logarithm; with
            1, all looks are at full resolution.

    Raises:
        ValueError: The scale is out of range.
    """

    def __init__(self, seed: int, max_scale: float) -> None:
        self.config: dict[str, Any] = {
            "seed": checked("seed", seed, int),
            "max_scale": checked("max_scale", max_scale, Scale),
        }
        self.observation = PlainObservation()

    @abstractmethod
    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Locations (B, 2) in [-1, 1] for uniform numbers (B, 2) in [0, 1)."""

    def start(self, context: Context) -> DrawnMemory:
        return drawn_memory(context)

    def __call__(
        self, observation: Mapping[str, Tensor], memory: DrawnMemory
    ) -> tuple[Look, DrawnMemory]:
        draws = draw((self.config["seed"],), observation, memory, 3)
        device = observation["number"].device
        location = torch.from_numpy(self.place(draws[:, :2].numpy())).float().to(device)
        scale = (self.config["max_scale"] ** draws[:, 2]).float().to(device)
        return Look.at(location, scale), memory


@POLICIES.register("random")
class RandomPolicy(DrawnPolicy):
    """Uniformly random locations; see ``DrawnPolicy``."""

    def __init__(self, seed: int = 0, max_scale: float = 1.0) -> None:
        super().__init__(seed, max_scale)

    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 2 * draws - 1


@POLICIES.register("gaussian")
class GaussianPolicy(DrawnPolicy):
    """Normally distributed locations around the centre; see ``DrawnPolicy``.

    Args:
        std: Standard deviation along each axis, on [-1, 1]; locations beyond an edge are clipped.
        seed: Other seeds give other looks.
        max_scale: See ``DrawnPolicy``.

    Raises:
        ValueError: The standard deviation is not positive.
    """

    def __init__(self, std: float = 0.5, seed: int = 0, max_scale: float = 1.0) -> None:
        super().__init__(seed, max_scale)
        self.config["std"] = checked("std", std, Annotated[float, Above(0)])

    def place(self, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        from scipy import special

        return (self.config["std"] * special.ndtri(draws)).clip(-1, 1)
