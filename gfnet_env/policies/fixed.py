"""Policies that do not look: random patches and the centre."""

import numpy as np
import torch
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.policies.base import Scene
from gfnet_env.randomness import uniform


class RandomPolicy:
    """Uniformly random locations, drawn by (seed, image, step).

    The image counts by its index in its set where the scene is known, else by its row in the batch
    at the glance; so a batch from which some images leave changes nothing for the others.

    Args:
        seed: Other seeds give other patches.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.config = {"seed": seed}

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
        return torch.from_numpy(2 * draws - 1).float().to(progress.device), images


class CenterPolicy:
    """Always the patch at the centre of the image."""

    name = "center"

    def __init__(self) -> None:
        self.config: dict[str, int] = {}

    def __call__(self, observation: Observation, state: None) -> tuple[Tensor, None]:
        return torch.zeros_like(observation["location"]), state
