"""Sources of the features of what a model looks at."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, Model

Indices = npt.NDArray[np.int64]


class FeatureSource(Protocol):
    """Serves the features that a model's encoders make of the images of a set.

    Attributes:
        model: The model; features are on its device.
        images: The set.
    """

    model: Model
    images: ImageSet

    def overview(self, indices: Indices) -> Features:
        """``Model.encode_overview`` of images ``indices``, (B,)."""
        ...

    def window(self, indices: Indices, looks: Look) -> Features:
        """``Model.encode_window`` of one look at each of images ``indices``, (B,)."""
        ...

    def snap(self, looks: Look) -> Look:
        """Where looks really go: a source that keeps features may know only some looks."""
        ...
