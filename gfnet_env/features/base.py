"""What serves a model the features of what it looks at."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, Model

Indices = npt.NDArray[np.int64]


class FeatureSource(Protocol):
    """Serves what a model's encoders make of the images of a set.

    Attributes:
        model: What sees; features are on its device.
        images: The set.
    """

    model: Model
    images: ImageSet

    def overview(self, indices: Indices) -> Features:
        """What the model's ``encode_overview`` makes of images ``indices``, (B,)."""
        ...

    def window(self, indices: Indices, looks: Look) -> Features:
        """What its ``encode_window`` makes of one look at each of images ``indices``, (B,)."""
        ...

    def snap(self, looks: Look) -> Look:
        """Where looks really go: a source that keeps features may know some looks only."""
        ...
