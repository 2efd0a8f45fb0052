"""The patches of stage 1: random, some of them on the object."""

import numpy as np
import torch
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.perception.geometry import centred_locations
from gfnet_env.policies.base import Scene
from gfnet_env.randomness import uniform

# Keeps these draws apart from any others of the same seed.
_STREAM = 2


class TrainingPatches:
    """A policy of uniformly random patches, a share of them on the object where its place is known.

    A patch is drawn by (seed, epoch, image, step), so that it is the same in every batch and every
    process. What is on the object is off its centre by up to a quarter of the patch.

    Args:
        seed: Other seeds give other patches.
        epoch: Times the images have been gone through before.
        object_share: Share of the patches put on the object, in [0, 1].
    """

    name = "training"

    def __init__(self, seed: int, epoch: int, object_share: float = 0.0) -> None:
        self._keys = (seed, _STREAM, epoch)
        self._object_share = object_share

    def start(self, scene: Scene) -> Scene:
        return scene

    def __call__(self, observation: Observation, state: Scene) -> tuple[Tensor, Scene]:
        device = observation["step"].device
        rows = torch.arange(len(state.pixels)) if state.rows is None else state.rows.cpu()
        images = state.indices[rows.numpy()]
        # Steps are keyed by their share of the whole, which is what an observation shows of them.
        steps = (observation["step"].squeeze(1).cpu().numpy() * 2**20).round().astype(np.int64)
        drawn = uniform(*self._keys, images[:, None], steps[:, None], np.arange(5))
        draws = torch.from_numpy(drawn).float().to(device)
        # A draw just below 1 may round to it, which is still a location.
        locations = 2 * draws[:, :2] - 1
        if state.boxes is None or self._object_share == 0:
            return locations, state
        boxes, side = state.boxes[rows.to(device)], state.network.patch_size
        offsets = (2 * draws[:, 2:4] - 1) * side / 4
        size = (state.pixels.shape[2], state.pixels.shape[3])
        on_object = centred_locations((boxes[:, :2] + boxes[:, 2:]) / 2 + offsets, size, side)
        return torch.where(draws[:, 4:] < self._object_share, on_object, locations), state
