"""The protocol of feature sources."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, Model

Indices = npt.NDArray[np.int64]


class FeatureSource(Protocol):
    """Serves a model's features of the images of a set.

    Attributes:
        model: The model; features are on its device.
        images: The set.
    """

    model: Model
    images: ImageSet

    def overview(self, indices: Indices) -> Features:
        """``Model.encode_overview`` of the images ``indices``, (B,)."""
        ...

    def window(self, indices: Indices, looks: Look) -> Features:
        """``Model.encode_window`` of one look at each of the images ``indices``, (B,)."""
        ...

    def snap(self, looks: Look) -> Look:
        """Where looks really go: a source with stored features may have only some looks."""
        ...
