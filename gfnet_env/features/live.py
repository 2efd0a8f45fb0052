"""Features made by the encoders whenever they are asked for."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gfnet_env.data import ImageSet, batches
from gfnet_env.features.base import FrozenFeatures, Numbers
from gfnet_env.perception import Features, GlanceFocusNetwork, Step
from gfnet_env.perception.geometry import check_locations
from gfnet_env.perception.precision import Precision, precision_type


class LiveFeatures(FrozenFeatures):
    """The encoders, called on all rows at once; pixels stay on the device during an episode.

    Args:
        network: See ``FrozenFeatures``.
        images: Likewise.
        rows: Likewise.
        precision: Likewise.
        keep_glances: Whether to keep the features of every glance in memory, on the device of the
            network, so that a later episode on the same image takes them from there.
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
        self._kept = _Glances(self) if keep_glances else None

    def focus(self, rows: Numbers, locations: Tensor, step: Step) -> Step:
        check_locations(locations, len(rows))
        self._read(rows)
        features = self._encode_patches(self._pixels, locations, self._on_device(rows))
        return self.network.go_on(features, locations, step, self.image_size)

    def glances(self, batch_size: int = 256) -> Iterator[Step]:
        for batch in batches(self.images, batch_size, device=self.network.device):
            features = self._encode_glances(batch.pixels)
            if self._kept is not None:
                self._kept.put(batch.indices, features)
            yield self.network.begin(features)

    def _glance(self, rows: Numbers) -> Step:
        if self._kept is None:
            return self.network.begin(self._encode_rows(rows))
        unknown = rows[~self._kept.known[self._indices[rows]]]
        # Of rows that are about the same image, the first.
        unknown = unknown[np.unique(self._indices[unknown], return_index=True)[1]]
        if len(unknown):
            self._kept.put(self._indices[unknown], self._encode_rows(unknown))
        return self.network.begin(self._kept.get(self._indices[rows]))


class _Glances:
    """The glances' features of a set of images, in memory."""

    def __init__(self, features: LiveFeatures) -> None:
        network, count = features.network, len(features.images)
        self.known = np.zeros(count, dtype=bool)
        # What is never written takes no memory on a CPU.
        empty = partial(
            torch.empty, device=network.device, dtype=precision_type(features.precision)
        )
        self._map: Tensor = empty((count, *network.feature_shape))
        self._vector: Tensor = empty((count, network.vector_size))

    def get(self, indices: Numbers) -> Features:
        chosen = torch.from_numpy(indices).to(self._map.device)
        return Features(self._map[chosen].float(), self._vector[chosen].float())

    def put(self, indices: Numbers, features: Features) -> None:
        chosen = torch.from_numpy(indices).to(self._map.device)
        self._map[chosen] = features.map.to(self._map.dtype)
        self._vector[chosen] = features.vector.to(self._map.dtype)
        self.known[indices] = True
