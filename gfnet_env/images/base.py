"""Image sets: labelled pictures by index, each of its own height and width, seen by views."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.digest import digest
from gfnet_env.images.picture import Fit
from gfnet_env.images.resize import resize
from gfnet_env.looks import Look, ViewConfig

DEFAULT_MEMORY_LIMIT = 2**30

# Pixels that are read at a time to tell a set from others.
_DIGEST_BYTES = 2**24

Indices = Sequence[int] | npt.NDArray[np.integer] | Tensor | slice | int
Numbers = npt.NDArray[np.int64]


class ImageSet(ABC):
    """Labelled pictures, which nobody else holds: what is seen of them are views, P×P pixels.

    A set of one's own provides ``labels``, ``_sizes`` and ``_regions``; one whose pictures are
    decoded whole derives from ``PictureImages`` instead.

    Attributes:
        labels: Class of every image, (N,) int64.
        class_names: One name per class, or None where the classes have none.
        boxes: Where the object is, (N, 4) float32 as (top, left, bottom, right) in pixels, or None
            where the set does not know.
        sources: Number of the original that each image was made from, (N,) int64, or None where
            every image is one of its own. Images of one original are not independent.
        fixed_size: (H, W) of all pictures, or None where each has its own.
        fit: What became of the pictures' own shape, see ``FolderImages``.
        normalised: Whether pixels are floats, normalised as the encoders expect, and not uint8.
        memory_limit: Bytes that decoded pictures may take.
    """

    labels: Tensor
    class_names: tuple[str, ...] | None = None
    boxes: Tensor | None = None
    sources: npt.NDArray[np.int64] | None = None
    fixed_size: tuple[int, int] | None = None
    fit: Fit = "whole"
    normalised: bool = False
    memory_limit: int = DEFAULT_MEMORY_LIMIT

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes there are: the names, or else the highest label and those below it."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    @property
    def originals(self) -> "ImageSet":
        """The same pictures at full resolution, from which random crops are taken."""
        return self

    def sizes(self, indices: Indices) -> Tensor:
        """(H, W) of some pictures, (B, 2) int64.

        Raises:
            IndexError: An index is outside [0, N).
            TypeError: An index is not an integer.
        """
        return self._sizes(self._check(indices))

    def overview(self, indices: Indices, view: int | ViewConfig) -> Tensor:
        """Whole pictures, scaled down to P×P.

        Args:
            indices: Integers in [0, N), or a slice; one integer stands for a batch of one.
            view: How views are made, or just P.

        Returns:
            (B, 3, P, P) uint8; floats in 0..255 where corners are aligned; normalised floats of a
            set of such.

        Raises:
            IndexError: An index is outside [0, N).
            TypeError: An index is not an integer.
            ValueError: A picture is smaller than P.
        """
        numbers, view = self._check(indices), _as_config(view)
        sizes = self._checked_sizes(numbers, view)
        whole = torch.cat([torch.zeros_like(sizes), sizes], dim=1)
        if view.aspect == "stretch" or bool((sizes[:, 0] == sizes[:, 1]).all()):
            return _three_channels(self._regions(numbers, whole, (view.size, view.size), view))
        rows = range(len(whole))
        return torch.cat([self._padded(numbers[[row]], whole[[row]], view) for row in rows])

    def window(self, indices: Indices, looks: Look, view: int | ViewConfig) -> Tensor:
        """What looks show of some pictures.

        Args:
            indices: As for ``overview``; B of them.
            looks: One at each picture.
            view: How views are made, or just P.

        Returns:
            (B, 3, P, P) as of ``overview``: at a scale of 1 the picture's own pixels.

        Raises:
            IndexError: An index is outside [0, N).
            TypeError: An index is not an integer.
            ValueError: There are not as many looks as indices, or a picture is smaller than P.
        """
        numbers, view = self._check(indices), _as_config(view)
        if len(numbers) != len(looks):
            raise ValueError(f"{len(numbers)} images were given {len(looks)} looks")
        sizes = self._checked_sizes(numbers, view).to(looks.location.device)
        boxes = view.window_boxes(looks, sizes)
        return _three_channels(self._regions(numbers, boxes, (view.size, view.size), view))

    def prefetch(self, indices: Indices) -> None:  # noqa: B027
        """Read pictures that will be looked at soon; another thread may call it."""

    def check_sizes(self, indices: Indices, view: ViewConfig) -> None:
        """Raises ``ValueError`` where a picture is smaller than P."""
        self._checked_sizes(self._check(indices), view)

    def picture(self, index: int) -> Tensor:
        """All pixels of one picture, (3, H, W).

        Raises:
            IndexError: The index is outside [0, N).
        """
        numbers = self._check(index)
        size = self._sizes(numbers)
        height, width = size[0].tolist()
        whole = torch.cat([torch.zeros_like(size), size], dim=1)
        exact = ViewConfig(size=max(height, width))
        return _three_channels(self._regions(numbers, whole, (height, width), exact))[0]

    def __getitem__(self, indices: Indices) -> Tensor:
        """The pixels of some images of a set whose pictures have one size, (B, 3, H, W).

        Raises:
            IndexError: An index is outside [0, N).
            TypeError: An index is not an integer.
            ValueError: Each picture has its own size.
        """
        if self.fixed_size is None:
            raise ValueError(
                "these pictures have sizes of their own, so they make no batch: take overview() or "
                "window() of them, or open the folder with fit=crop"
            )
        numbers = self._check(indices)
        boxes = torch.tensor([[0, 0, *self.fixed_size]]).expand(len(numbers), -1)
        exact = ViewConfig(size=max(self.fixed_size))
        return _three_channels(self._regions(numbers, boxes, self.fixed_size, exact))

    def digest(self) -> str:
        """What tells these pixels from all others, 64 hexadecimal digits.

        Made of all pixels here; sets that know where their pixels come from need not read them.
        """
        if self.fixed_size is None:
            parts = [digest(self.picture(index)) for index in range(len(self))]
        else:
            step = max(1, _DIGEST_BYTES // (3 * self.fixed_size[0] * self.fixed_size[1]))
            parts = [digest(self[start : start + step]) for start in range(0, len(self), step)]
        return digest("pixels", len(self), parts)

    def _sizes(self, indices: Numbers) -> Tensor:
        """(H, W) of pictures whose indices have been checked, (B, 2) int64."""
        if self.fixed_size is None:
            raise NotImplementedError
        return torch.tensor(self.fixed_size).expand(len(indices), 2)

    @abstractmethod
    def _regions(
        self, indices: Numbers, boxes: Tensor, shape: tuple[int, int], view: ViewConfig
    ) -> Tensor:
        """Parts of pictures, resized to one shape.

        Args:
            indices: Which pictures, (B,), checked.
            boxes: Which part of each, (B, 4) int64 as (top, left, bottom, right), within it.
            shape: (h, w) of the result.
            view: How it is resized, where a part has another shape.

        Returns:
            (B, 3, h, w), or (B, 1, h, w) of grey pictures.
        """

    def _padded(self, index: Numbers, whole: Tensor, view: ViewConfig) -> Tensor:
        """The overview of one picture with black beside it, (1, 3, P, P)."""
        corner, extents = view.frame(whole[:, 2:])
        scale = view.size / int(extents[0, 0])
        top, left = (max(0, round(-int(c) * scale)) for c in corner[0])
        height, width = (max(1, round(int(side) * scale)) for side in whole[0, 2:])
        shown = _three_channels(self._regions(index, whole, (height, width), view))
        right, bottom = view.size - left - width, view.size - top - height
        return functional.pad(shown, (left, right, top, bottom))

    def _checked_sizes(self, indices: Numbers, view: ViewConfig) -> Tensor:
        sizes = self._sizes(indices)
        small = (sizes < view.size).any(dim=1)
        if bool(small.any()):
            row = int(small.nonzero()[0])
            height, width = sizes[row].tolist()
            raise ValueError(
                f"image {indices[row]} is {height}×{width}, smaller than the patch of {view.size}×"
                f"{view.size}; enlarge it or build the network with a smaller patch_size"
            )
        return sizes

    def _check(self, indices: Indices) -> Numbers:
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


def cut(
    pixels: Tensor, rows: Tensor, boxes: Tensor, shape: tuple[int, int], view: ViewConfig
) -> Tensor:
    """Parts of some images that lie in one tensor, resized to one shape.

    Args:
        pixels: (S, C, H, W), of which no more is read than the parts.
        rows: Which images, (B,) int64 in [0, S), on the device of the pixels.
        boxes: See ``ImageSet._regions``.
        shape: Likewise.
        view: Likewise.

    Returns:
        (B, C, h, w).
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
        everything = len(rows) == len(pixels) and bool((rows.diff() == 1).all())
        return resize(pixels if everything else pixels.index_select(0, rows), shape, view)
    # A view of every possible part: no pixel is copied until the chosen ones are gathered.
    windows = pixels.unfold(2, height, 1).unfold(3, width, 1)
    return resize(windows[rows, :, boxes[:, 0], boxes[:, 1]], shape, view)


def cut_one(
    picture: Tensor, box: Sequence[int], shape: tuple[int, int], view: ViewConfig
) -> Tensor:
    """A part of one picture (C, H, W), resized to a shape: (1, C, h, w)."""
    top, left, bottom, right = box
    return resize(picture[None, :, top:bottom, left:right], shape, view)


def _as_config(view: int | ViewConfig) -> ViewConfig:
    return ViewConfig(size=view) if isinstance(view, int) else view


def _three_channels(pixels: Tensor) -> Tensor:
    return pixels.expand(-1, 3, -1, -1)
