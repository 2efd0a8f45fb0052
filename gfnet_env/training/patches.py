"""The random windows of stage 1, some of them on the object."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gfnet_env.looks import centred_locations
from gfnet_env.observations import PlainObservation
from gfnet_env.policies.base import Context
from gfnet_env.policies.drawn import draw, drawn_memory
from gfnet_env.rows import Shared

# A separate key, so that these draws differ from others with the same seed.
_STREAM = 2


class TrainingPatches:
    """A policy of uniformly random looks, some of them at the object if its place is known.

    A look is drawn by (seed, epoch, image, step), so it is the same in every batch and every
    process. A look at the object misses the object's centre by up to a quarter of the window.

    Args:
        seed: Other seeds give other looks.
        epoch: Number of the epoch, from 0.
        object_share: Share of the looks that are at the object, in [0, 1].
    """

    def __init__(self, seed: int, epoch: int, object_share: float = 0.0) -> None:
        self.observation = PlainObservation()
        self._keys = (seed, _STREAM, epoch)
        self._object_share = object_share

    def start(self, context: Context) -> dict[str, Any]:
        memory: dict[str, Any] = dict(drawn_memory(context))
        if context.boxes is not None and self._object_share > 0:
            memory["boxes"] = context.boxes
            memory["sizes"] = context.features.images.sizes(context.indices)
            memory["window"] = Shared(context.model.view.size)
        return memory

    def __call__(
        self, observation: Mapping[str, Tensor], memory: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        draws = draw(self._keys, observation, memory, 5).float().to(observation["number"].device)
        # A draw just below 1 may round to 1, which is still a location.
        locations = 2 * draws[:, :2] - 1
        if "boxes" not in memory:
            return locations, memory
        boxes, window = memory["boxes"].to(draws.device), memory["window"].value
        offsets = (2 * draws[:, 2:4] - 1) * window / 4
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + offsets
        on_object = centred_locations(centres, memory["sizes"], window)
        return torch.where(draws[:, 4:] < self._object_share, on_object, locations), memory
