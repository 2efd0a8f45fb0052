"""Features made by the encoders whenever they are asked for."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from gfnet_env.data import ImageSet, batches
from gfnet_env.features.base import FrozenFeatures, Numbers
from gfnet_env.perception import GlanceFocusNetwork, Step
from gfnet_env.perception.geometry import check_locations
from gfnet_env.perception.precision import Precision, precision_type


class LiveFeatures(FrozenFeatures):
    """The encoders, called on all rows at once; pixels stay on the device during an episode.

    Args:
        network: See ``FrozenFeatures``.
        images: Likewise.
        rows: Likewise.
        precision: Likewise.
        keep_glances: Whether to keep every glance in memory, on the device of the network, so that
            a later episode on the same image takes it from there. The classifier, whose memory and
            logits are kept too, must then not change either.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        images: ImageSet,
        rows: int,
        *,
        precision: Precision = "float32",
        keep_glances: bool = False,
    ) -> None:
        super().__init__(network, images, rows, precision=precision)
        self._kept = _Glances(len(images), precision) if keep_glances else None

    def focus(self, rows: Numbers, locations: Tensor, step: Step) -> Step:
        check_locations(locations, len(rows))
        self._read(rows)
        features = self._encode_patches(self._pixels, locations, self._on_device(rows))
        return self.network.go_on(features, locations, step, self.image_size)

    def glances(self, batch_size: int = 256) -> Iterator[Step]:
        for batch in batches(self.images, batch_size, device=self.network.device):
            step = self.network.begin(self._encode_glances(batch.pixels))
            if self._kept is not None:
                self._kept.put(batch.indices, step)
            yield step

    def _glance(self, rows: Numbers) -> Step:
        if self._kept is None:
            return self.network.begin(self._encode_rows(rows))
        unknown = rows[~self._kept.known[self._indices[rows]]]
        # Of rows that are about the same image, the first.
        unknown = unknown[np.unique(self._indices[unknown], return_index=True)[1]]
        if len(unknown):
            step = self.network.begin(self._encode_rows(unknown))
            self._kept.put(self._indices[unknown], step)
        return self._kept.get(self._indices[rows])


class _Glances:
    """The glances at a set of images, in memory.

    Args:
        count: Images of the set.
        precision: What features are rounded to, so that they lose nothing when they are kept so.
    """

    def __init__(self, count: int, precision: Precision) -> None:
        self.known = np.zeros(count, dtype=bool)
        self._type = precision_type(precision)
        self._kept: Step | None = None

    def get(self, indices: Numbers) -> Step:
        assert self._kept is not None
        step = self._kept.select(torch.from_numpy(indices).to(self._kept.number.device))
        feature_map = step.feature_map.float()
        return replace(
            step, feature_map=feature_map, glance_map=feature_map, vector=step.vector.float()
        )

    def put(self, indices: Numbers, step: Step) -> None:
        step = replace(
            step,
            feature_map=step.feature_map.to(self._type),
            vector=step.vector.to(self._type),
            # At a glance it is the feature map.
            glance_map=step.glance_map[:, :0],
        )
        if self._kept is None:
            # What is never written takes no memory on a CPU.
            values = (getattr(step, item.name) for item in fields(step))
            self._kept = Step(
                *(value.new_empty(len(self.known), *value.shape[1:]) for value in values)
            )
        chosen = torch.from_numpy(indices).to(step.number.device)
        for item in fields(step):
            getattr(self._kept, item.name)[chosen] = getattr(step, item.name).detach()
        self.known[indices] = True
