"""Training images as an epoch sees them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data import ImageSet
from gfnet_env.randomness import uniform

# Keeps these draws apart from any others of the same seed.
_STREAM = 1


class Mirrored(ImageSet):
    """An image set of which about half is mirrored left to right, another half in every epoch.

    Which images are is drawn by (seed, epoch, index), so that it is the same in every batch and
    every process.

    Args:
        images: The set.
        seed: Other seeds give other halves.
        epoch: At least 0.
    """

    def __init__(self, images: ImageSet, seed: int, epoch: int) -> None:
        self.labels, self.class_names = images.labels, images.class_names
        self._images = images
        drawn = uniform(seed, _STREAM, epoch, np.arange(len(images)))
        self._mirrored = torch.from_numpy(drawn < 0.5)
        if images.boxes is not None:
            width = images[[0]].shape[3]
            top, left, bottom, right = images.boxes.unbind(dim=1)
            mirrored = torch.stack([top, width - right, bottom, width - left], dim=1)
            self.boxes = torch.where(self._mirrored[:, None], mirrored, images.boxes)

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        pixels = self._images[indices]
        mirrored = self._mirrored[torch.from_numpy(indices)].view(-1, 1, 1, 1)
        return torch.where(mirrored, pixels.flip(3), pixels)
