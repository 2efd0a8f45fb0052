"""The base class of image sets: labelled pictures of any sizes, which are seen through views."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.arrays import as_array
from gfnet_env.digest import digest
from gfnet_env.images.picture import Fit
from gfnet_env.images.resize import Shape, resize
from gfnet_env.looks import Look, ViewConfig

DEFAULT_MEMORY_LIMIT = 2**30

# Most bytes of whole pictures to copy in order to resize them together.
_COPIED_BYTES = 2**22

Indices = Sequence[int] | npt.NDArray[np.integer] | Tensor | slice | int
Numbers = npt.NDArray[np.int64]


class ImageSet(ABC):
    """Labelled pictures, which other code sees only through views of P×P pixels.

    A set of your own provides ``labels``, ``_sizes`` and ``_regions``. If it decodes whole
    pictures, derive from ``PictureImages`` instead.

    Methods raise ``IndexError`` if an index is outside [0, N), and ``TypeError`` if it is not an
    integer.

    Attributes:
        labels: Class of every image, (N,) int64.
        class_names: One name per class, or None.
        boxes: Where the object is, (N, 4) float32 as (top, left, bottom, right) in pixels, or None.
        sources: Number of the original that each image was made from, (N,) int64; images of one
            original are not independent. None if each image has its own original.
        fixed_size: (H, W) of all pictures, or None if each has its own size.
        fit: How pictures were brought to their shape, see ``FolderImages``.
        normalised: Whether pixels are floats, normalised as the encoders expect, instead of uint8.
        memory_limit: Most bytes of decoded pictures that the set keeps.
    """

    labels: Tensor
    class_names: tuple[str, ...] | None = None
    boxes: Tensor | None = None
    sources: npt.NDArray[np.int64] | None = None
    fixed_size: Shape | None = None
    fit: Fit = "whole"
    normalised: bool = False
    memory_limit: int = DEFAULT_MEMORY_LIMIT

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of class names, or else the highest label plus one.

        Raises:
            ValueError: There are neither names nor images.
        """
        if not self.class_names and len(self) == 0:
            raise ValueError("the set has no images and no class names; give some")
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    @property
    def originals(self) -> "ImageSet":
        """The same pictures at full resolution: random crops are taken from them."""
        return self

    def sizes(self, indices: Indices) -> Tensor:
        """(H, W) of some pictures, (B, 2) int64."""
        return self._sizes(self.numbers(indices))

    def overview(self, indices: Indices, view: int | ViewConfig) -> Tensor:
        """Whole pictures, scaled down to P×P.

        Args:
            indices: B integers in [0, N), or a slice; one integer is a batch of one.
            view: How views are made, or just P.

        Returns:
            (B, 3, P, P) uint8; floats in 0..255 if corners are aligned; normalised floats if the
            set is ``normalised``.

        Raises:
            ValueError: A picture is smaller than P, or holds NaN or infinity where it is seen.
        """
        numbers, view = self.numbers(indices), _as_config(view)
        sizes = self._checked_sizes(numbers, view)
        if view.aspect == "stretch" or bool((sizes[:, 0] == sizes[:, 1]).all()):
            return self._show(numbers, _whole(sizes), (view.size, view.size), view)
        rows = range(len(sizes))
        return torch.cat([self._padded(numbers[[row]], sizes[[row]], view) for row in rows])

    def window(self, indices: Indices, looks: Look, view: int | ViewConfig) -> Tensor:
        """The window of one look at each picture; at scale 1 it holds the picture's own pixels.

        See ``overview`` for the arguments and the result.

        Raises:
            ValueError: The numbers of looks and indices differ, or a picture is smaller than P.
        """
        numbers, view = self.numbers(indices), _as_config(view)
        if len(numbers) != len(looks):
            raise ValueError(f"{len(numbers)} images were given {len(looks)} looks")
        sizes = self._checked_sizes(numbers, view).to(looks.location.device)
        boxes = view.window_boxes(looks, sizes)
        return self._show(numbers, boxes, (view.size, view.size), view)

    def prefetch(self, indices: Indices) -> None:  # noqa: B027
        """Read pictures that will be looked at soon; any thread may call this."""

    def check_sizes(self, indices: Indices, view: ViewConfig) -> None:
        """Raises ``ValueError`` if a picture is smaller than P."""
        self._checked_sizes(self.numbers(indices), view)

    def picture(self, index: int, max_side: int | None = None) -> Tensor:
        """One picture, (3, H, W), at full size, or reduced so that no side exceeds ``max_side``."""
        return self._pixels_of(self.numbers(index), max_side)[0]

    def __getitem__(self, indices: Indices) -> Tensor:
        """All pixels of some pictures, which must have one size, (B, 3, H, W).

        Raises:
            ValueError: The set has no ``fixed_size``.
        """
        if self.fixed_size is None:
            raise ValueError(
                "these pictures have sizes of their own, so they make no batch: take overview() or "
                "window() of them, or open the folder with fit=crop"
            )
        return self._pixels_of(self.numbers(indices))

    def digest(self) -> str:
        """64 hexadecimal digits that tell these pixels from all others.

        This method reads all pixels; a set that knows where its pixels come from need not.
        """
        parts = [digest(self.picture(index)) for index in range(len(self))]
        return digest("pixels", len(self), parts)

    def _sizes(self, indices: Numbers) -> Tensor:
        """``sizes`` of checked indices; a set without ``fixed_size`` overrides this."""
        if self.fixed_size is None:
            raise NotImplementedError
        return torch.tensor(self.fixed_size).expand(len(indices), 2)

    @abstractmethod
    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        """Cut parts out of pictures and resize them to one shape.

        Args:
            indices: Which pictures, (B,), checked.
            boxes: The part of each picture, (B, 4) int64 as (top, left, bottom, right), within the
                picture.
            shape: (h, w) of the result.
            view: How to resize a part of another shape.

        Returns:
            (B, 3, h, w), or (B, 1, h, w) for grey pictures.
        """

    def _show(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        """``_regions`` with three channels; floats are checked."""
        shown = self._regions(indices, boxes, shape, view)
        if self.normalised:
            check_finite(shown, indices)
        return shown.expand(-1, 3, -1, -1)

    def _pixels_of(self, indices: Numbers, max_side: int | None = None) -> Tensor:
        """Pictures of one size, (B, 3, H, W), with all pixels or reduced."""
        sizes = self._sizes(indices)
        height, width = self.fixed_size or sizes[0].tolist()
        scale = min(1, (max_side or math.inf) / max(height, width))
        shape = max(1, round(height * scale)), max(1, round(width * scale))
        return self._show(indices, _whole(sizes), shape, ViewConfig(size=max(shape)))

    def _padded(self, index: Numbers, size: Tensor, view: ViewConfig) -> Tensor:
        """The overview of one picture, padded with black, (1, 3, P, P)."""
        corner, extents = view.frame(size)
        scale = view.size / int(extents[0, 0])
        top, left = (max(0, round(-int(c) * scale)) for c in corner[0])
        height, width = (max(1, round(int(side) * scale)) for side in size[0])
        shown = self._show(index, _whole(size), (height, width), view)
        right, bottom = view.size - left - width, view.size - top - height
        return functional.pad(shown, (left, right, top, bottom))

    def _checked_sizes(self, indices: Numbers, view: ViewConfig) -> Tensor:
        sizes = self._sizes(indices)
        if self.fixed_size is not None and min(self.fixed_size) >= view.size:
            return sizes
        small = (sizes < view.size).any(dim=1)
        if bool(small.any()):
            row = int(small.nonzero()[0])
            height, width = sizes[row].tolist()
            raise ValueError(
                f"{self._called(int(indices[row]))} is {height}×{width}, smaller than the patch of "
                f"{view.size}×{view.size}; enlarge it or build the network with a smaller "
                "patch_size"
            )
        return sizes

    def _called(self, index: int) -> str:
        """What one picture is called in messages."""
        return f"image {index}"

    def numbers(self, indices: Indices) -> Numbers:
        """Indices of images as an array (B,) int64.

        Raises:
            IndexError: An image does not exist.
            TypeError: They are no indices.
        """
        if isinstance(indices, slice):
            return np.arange(*indices.indices(len(self)))
        array = np.atleast_1d(as_array(indices, "indices"))
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


def check_finite(pixels: Tensor, numbers: Numbers) -> None:
    """Raise ``ValueError`` with the numbers of the images (B, …) that hold NaN or infinity."""
    if pixels.numel() == 0:
        return
    flat = pixels.flatten(1)
    wrong = ~(flat.amin(dim=1).isfinite() & flat.amax(dim=1).isfinite()).cpu().numpy()
    if wrong.any():
        listed = ", ".join(map(str, numbers[wrong][:5])) + ", …" * int(wrong.sum() > 5)
        raise ValueError(
            f"{wrong.sum()} of {len(pixels)} images hold NaN or infinity: number {listed}"
        )


def cut(pixels: Tensor, rows: Tensor, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
    """``ImageSet._regions`` for images in one tensor; returns (B, C, h, w).

    Args:
        pixels: (S, C, H, W); only the parts are read.
        rows: Which images, (B,) int64 in [0, S), on the device of the pixels.
        boxes: See ``ImageSet._regions``.
        shape: (h, w) of the result.
        view: How to resize, see ``ImageSet._regions``.
    """
    boxes = boxes.to(pixels.device)
    extents = boxes[:, 2:] - boxes[:, :2]
    if len(rows) == 0:
        return pixels.new_empty(0, pixels.shape[1], *shape)
    if not bool((extents == extents[:1]).all()):
        pairs = zip(rows.tolist(), boxes.tolist(), strict=True)
        return torch.cat([cut_one(pixels[row], box, shape, view) for row, box in pairs])
    height, width = extents[0].tolist()
    if (height, width) == pixels.shape[2:]:
        if len(rows) == 1 or len(rows) * pixels[0].nbytes > _COPIED_BYTES:
            # Allocating a copy of all parts costs more than one call per part.
            return torch.cat([resize(pixels[row][None], shape, view) for row in rows.tolist()])
        return resize(pixels.index_select(0, rows), shape, view)
    # A view of every possible part: only the chosen pixels are copied.
    windows = pixels.unfold(2, height, 1).unfold(3, width, 1)
    return resize(windows[rows, :, boxes[:, 0], boxes[:, 1]], shape, view)


def cut_one(picture: Tensor, box: Sequence[int], shape: Shape, view: ViewConfig) -> Tensor:
    """A part of one picture (C, H, W), resized to a shape: (1, C, h, w)."""
    top, left, bottom, right = box
    return resize(picture[None, :, top:bottom, left:right], shape, view)


def _as_config(view: int | ViewConfig) -> ViewConfig:
    return ViewConfig(size=view) if isinstance(view, int) else view


def _whole(sizes: Tensor) -> Tensor:
    """Boxes (B, 4) that hold all of each picture, from the sizes (B, 2)."""
    return torch.cat([torch.zeros_like(sizes), sizes], dim=1)
