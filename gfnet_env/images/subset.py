"""Some images of a set."""

import torch
from torch import Tensor

from gfnet_env.digest import digest
from gfnet_env.images.base import ImageSet, Indices, Numbers
from gfnet_env.images.resize import Shape
from gfnet_env.looks import ViewConfig


class Subset(ImageSet):
    """Some images of a set.

    Args:
        images: The set.
        indices: Which of its images, (S,).
    """

    def __init__(self, images: ImageSet, indices: Indices) -> None:
        self._images = images
        self._indices = images.numbers(indices)
        chosen = torch.from_numpy(self._indices)
        self.labels = images.labels[chosen]
        self.class_names = images.class_names
        self.boxes = None if images.boxes is None else images.boxes[chosen]
        self.sources = None if images.sources is None else images.sources[chosen]
        self.fixed_size, self.fit = images.fixed_size, images.fit
        self.normalised, self.memory_limit = images.normalised, images.memory_limit

    @property
    def originals(self) -> ImageSet:
        originals = self._images.originals
        return self if originals is self._images else Subset(originals, self._indices)

    def digest(self) -> str:
        return digest("subset", self._images.digest(), self._indices)

    def prefetch(self, indices: Indices) -> None:
        self._images.prefetch(self._indices[self.numbers(indices)])

    def _sizes(self, indices: Numbers) -> Tensor:
        return self._images._sizes(self._indices[indices])

    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        return self._images._regions(self._indices[indices], boxes, shape, view)

    def _called(self, index: int) -> str:
        return self._images._called(int(self._indices[index]))
