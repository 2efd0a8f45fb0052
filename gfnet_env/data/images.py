"""Image sets: labelled pictures by index."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data.picture import Crop
from gfnet_env.digest import digest

# Pixels that are read at a time to tell a set from others.
_DIGEST_BYTES = 2**24

Indices = Sequence[int] | npt.NDArray[np.integer] | Tensor | slice | int


class ImageSet(ABC):
    """Labelled pictures of one size, served as uint8 batches by index.

    Attributes:
        labels: Class of every image, (N,) int64.
        class_names: One name per class, or None where the classes have none.
        boxes: Where the object is, (N, 4) float32 as (top, left, bottom, right) in pixels, or None
            where the set does not know.
        sources: Number of the original that each image was made from, (N,) int64, or None where
            every image is one of its own. Images of one original are not independent.
    """

    labels: Tensor
    class_names: tuple[str, ...] | None = None
    boxes: Tensor | None = None
    sources: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes there are: the names, or else the highest label and those below it."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def __getitem__(self, indices: Indices) -> Tensor:
        """The pixels of some images.

        Args:
            indices: Integers in [0, N), or a slice; one integer stands for a batch of one.

        Returns:
            (B, 3, H, W) uint8.

        Raises:
            IndexError: An index is outside [0, N).
            TypeError: An index is not an integer.
        """
        return self._read(self._check(indices))

    def _check(self, indices: Indices) -> npt.NDArray[np.int64]:
        if isinstance(indices, slice):
            return np.arange(*indices.indices(len(self)))
        if isinstance(indices, Tensor):
            indices = indices.cpu()
        array = np.atleast_1d(np.asarray(indices))
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise TypeError(
                f"indices must be a one-dimensional sequence of integers, not {array.dtype} "
                f"of shape {array.shape}"
            )
        wrong = array[(array < 0) | (array >= len(self))]
        if len(wrong):
            raise IndexError(f"image {wrong[0]} does not exist: this set has {len(self)} images")
        return array.astype(np.int64)

    def read_crops(self, indices: Indices, crops: Sequence[Crop]) -> Tensor:
        """Parts of some images, resized to the size of the set's images.

        Args:
            indices: As for ``images[indices]``; B of them.
            crops: What part to take of each.

        Returns:
            (B, 3, H, W) uint8.
        """
        return self._read_crops(self._check(indices), crops)

    def _read_crops(self, indices: npt.NDArray[np.int64], crops: Sequence[Crop]) -> Tensor:
        """As ``_read``; a set whose pictures have more pixels than it serves crops those."""
        # Dear to import, and few sets need it.
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import resized_crop

        whole = self._read(indices)
        parts = torch.empty(whole.shape, dtype=torch.uint8)
        for part, image, crop in zip(parts, whole, crops, strict=True):
            top, left, bottom, right = crop(image.shape[1], image.shape[2]).tolist()
            resized = resized_crop(
                image,
                *(top, left, bottom - top, right - left),
                size=list(image.shape[1:]),
                interpolation=InterpolationMode.BICUBIC,
            )
            part.copy_(resized)
        return parts

    def digest(self) -> str:
        """What tells these pixels from all others, 64 hexadecimal digits.

        Made of all pixels here; sets that know where their pixels come from need not read them.
        """
        step = max(1, _DIGEST_BYTES // self[[0]].numel())
        parts = [digest(self[start : start + step]) for start in range(0, len(self), step)]
        return digest("pixels", len(self), parts)

    @abstractmethod
    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """The pixels of images whose indices have been checked, (B, 3, H, W) uint8."""


class ArrayImages(ImageSet):
    """Images that are already in memory.

    Args:
        pixels: (N, 3, H, W) uint8, an array or a tensor; shared, not copied, unless read-only.
        labels: (N,) integers, at least 0.
        class_names: One name per class, if the classes have names.
        boxes: (N, 4) as (top, left, bottom, right) in pixels, if the objects' places are known.

    Raises:
        ValueError: A shape, a dtype or a label is wrong.
    """

    def __init__(
        self,
        pixels: npt.ArrayLike | Tensor,
        labels: npt.ArrayLike | Tensor,
        class_names: Sequence[str] | None = None,
        boxes: npt.ArrayLike | Tensor | None = None,
    ) -> None:
        if isinstance(pixels, np.ndarray) and not pixels.flags.writeable:
            # Torch cannot share memory that it must not write to.
            pixels = pixels.copy()
        self._pixels = torch.as_tensor(pixels)
        labels = torch.as_tensor(labels)
        if self._pixels.dtype != torch.uint8:
            raise ValueError(f"pixels must be uint8 in 0..255, not {self._pixels.dtype}")
        if self._pixels.ndim != 4 or self._pixels.shape[1] != 3:
            raise ValueError(f"pixels must be (N, 3, H, W), not {tuple(self._pixels.shape)}")
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be integers, not {labels.dtype}")
        if labels.shape != (len(self._pixels),):
            raise ValueError(
                f"labels must be ({len(self._pixels)},), one per image, not {tuple(labels.shape)}"
            )
        if len(labels) == 0:
            raise ValueError("an image set needs at least one image")
        if labels.min() < 0:
            raise ValueError(f"labels must be at least 0; one is {int(labels.min())}")
        if class_names is not None and labels.max() >= len(class_names):
            raise ValueError(f"label {int(labels.max())} has no name: {len(class_names)} are given")
        self.labels = labels.long()
        self.class_names = tuple(class_names) if class_names is not None else None
        if boxes is not None:
            self.boxes = torch.as_tensor(boxes, dtype=torch.float32)
            if self.boxes.shape != (len(labels), 4):
                raise ValueError(f"boxes must be ({len(labels)}, 4), not {tuple(self.boxes.shape)}")

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        # Copies whole images, where an index between brackets would gather byte by byte.
        return self._pixels.index_select(0, torch.from_numpy(indices))


class Subset(ImageSet):
    """Some images of a set.

    Args:
        images: The set.
        indices: Which of its images, (S,).
    """

    def __init__(self, images: ImageSet, indices: npt.NDArray[np.int64]) -> None:
        self._images = images
        self._indices = indices
        chosen = torch.from_numpy(indices)
        self.labels = images.labels[chosen]
        self.class_names = images.class_names
        self.boxes = None if images.boxes is None else images.boxes[chosen]
        self.sources = None if images.sources is None else images.sources[chosen]

    def digest(self) -> str:
        return digest("subset", self._images.digest(), self._indices)

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        return self._images[self._indices[indices]]

    def _read_crops(self, indices: npt.NDArray[np.int64], crops: Sequence[Crop]) -> Tensor:
        return self._images.read_crops(self._indices[indices], crops)


class CentreCrops(ImageSet):
    """The middle of every image of a set.

    Args:
        images: The set; where it knows the objects' places, this one does not.
        side: Side of the squares that are cut out, in pixels.

    Attributes:
        images: The set.

    Raises:
        ValueError: The images are smaller than that.
    """

    def __init__(self, images: ImageSet, side: int) -> None:
        height, width = images[[0]].shape[2:]
        if min(height, width) < side:
            raise ValueError(f"images of {height}×{width} have no crop of {side}×{side}")
        self.images = images
        self._rows = slice((height - side) // 2, (height + side) // 2)
        self._columns = slice((width - side) // 2, (width + side) // 2)
        self.labels = images.labels
        self.class_names = images.class_names

    def digest(self) -> str:
        bounds = [each for part in (self._rows, self._columns) for each in (part.start, part.stop)]
        return digest("centre crops", self.images.digest(), bounds)

    def crop(self, pixels: Tensor) -> Tensor:
        """The middle of what has the height and the width of the set's images, (..., H, W)."""
        return pixels[..., self._rows, self._columns]

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        return self.crop(self.images[indices])
