"""Random crops, mirror images and colours of training pictures, new in every epoch."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.images.base import ImageSet, Indices, Numbers
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.resize import Shape
from gfnet_env.looks import ViewConfig
from gfnet_env.randomness import uniform
from gfnet_env.settings import Above, Between, Settings

# A key of its own keeps these draws apart from those of scenes and random patches.
_STREAM = 0x61756721
# Crops to draw before taking the middle of the picture.
_ATTEMPTS = 10
# The numbers drawn for each image: one for the mirror, four for each crop, three for the colours.
_CROPS = np.arange(1, 1 + 4 * _ATTEMPTS)
_COLOURS = np.arange(1 + 4 * _ATTEMPTS, 4 + 4 * _ATTEMPTS)
# Of red, green and blue in the luminance (ITU-R BT.601).
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Augmentation(Settings):
    """Random changes of training pictures; none by default."""

    crop_scale: Annotated[tuple[float, float] | None, Above(0), Between(0, 1)] = None
    """Least and greatest share of a training picture's area that a random crop keeps, often
    0.08 1; by default there are no random crops."""
    crop_ratio: Annotated[tuple[float, float], Above(0)] = (3 / 4, 4 / 3)
    """Least and greatest ratio of a random crop's width to its height."""
    flip: bool = False
    """Whether to mirror half of the training images."""
    color_jitter: Annotated[float, Between(0, 1)] = 0.0
    """How far to change brightness, contrast and saturation at random: 0.4 multiplies each by 0.6
    to 1.4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("crop_scale", "crop_ratio"):
            limits = getattr(self, name)
            if limits is not None and limits[0] > limits[1]:
                raise ValueError(f"{name} must be two rising numbers, not {limits}")


def random_resized_crop(
    draws: npt.NDArray[np.float64],
    sizes: npt.ArrayLike,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Numbers:
    """Random crops (Szegedy et al., "Going Deeper with Convolutions", 2015).

    Like ``torchvision.transforms.v2.RandomResizedCrop``, but with given random numbers: it takes
    the first of ten crops that fits, or else the middle of the picture.

    Args:
        draws: Uniform numbers in [0, 1), (B, 10, 4).
        sizes: (H, W) of each picture, (B, 2), or of all pictures, (2,), in pixels.
        scale: Least and greatest share of a picture's area.
        ratio: Least and greatest ratio of width to height; its logarithm is uniform.

    Returns:
        (B, 4) as (top, left, bottom, right) in pixels.
    """
    sizes = np.broadcast_to(np.asarray(sizes), (len(draws), 2))
    area = sizes.prod(axis=1)[:, None] * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * draws[..., 1])
    sides = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1).round()
    room = sizes[:, None] - sides
    corners = np.floor(draws[..., 2:] * (room + 1))
    crops = np.concatenate([corners, corners + sides], axis=-1).astype(np.int64)
    fits = ((sides >= 1) & (room >= 0)).all(axis=-1)
    first = crops[np.arange(len(crops)), fits.argmax(axis=1)]
    # The largest crop about the middle whose ratio is within bounds.
    widest = np.stack([sizes[:, 1] / ratio[0], sizes[:, 0] * ratio[1]], axis=1).round()
    sides = np.minimum(sizes, widest).astype(np.int64).clip(min=1)
    corners = (sizes - sides) // 2
    middle = np.concatenate([corners, corners + sides], axis=1)
    return np.where(fits.any(axis=1)[:, None], first, middle)


class AugmentedImages(PictureImages):
    """A set as one training epoch sees it: randomly cropped, mirrored and coloured.

    The draws for an image depend only on (seed, epoch, index), not on its batch, the process that
    reads it, or whether the run was resumed.

    Crops are taken from pictures at full resolution. In a set of one size, crops are resized to
    that size. In other sets they keep their resolution, and views enlarge crops smaller than P.
    Boxes follow the crop and the mirroring and are clipped at the edges, so the box of an object
    outside the crop is empty. All views of a picture change their colours alike: contrast is about
    mid-grey, and not about the mean of a view.

    Args:
        images: The set.
        augmentation: How to change its pictures.
        seed: Seed of the draws.
        epoch: Number of the epoch, from 0.

    Raises:
        ValueError: Colours cannot change, since the images are normalised.
    """

    def __init__(
        self, images: ImageSet, augmentation: Augmentation, *, seed: int, epoch: int
    ) -> None:
        super().__init__(memory_limit=images.memory_limit)
        if augmentation.color_jitter and images.normalised:
            raise ValueError(
                f"color_jitter is {augmentation.color_jitter}, but colours of normalised images "
                "cannot change; leave it out, or give images of uint8"
            )
        self.labels, self.class_names = images.labels, images.class_names
        self.fixed_size, self.fit = images.fixed_size, images.fit
        self.normalised = images.normalised
        self._images = images
        self._augmentation = augmentation
        self._keys = (_STREAM, seed, epoch)
        self._resized = augmentation.crop_scale is not None and images.fixed_size is not None
        if images.boxes is not None:
            self.boxes = self._seen(images.boxes)

    def prefetch(self, indices: Indices) -> None:
        if self._resized:
            super().prefetch(indices)
        else:
            self._images.prefetch(indices)

    def _sizes(self, indices: Numbers) -> Tensor:
        if self.fixed_size is not None:
            return super()._sizes(indices)
        crops = self._crops(indices)
        return crops[:, 2:] - crops[:, :2]

    def _checked_sizes(self, indices: Numbers, view: ViewConfig) -> Tensor:
        # A crop may be smaller than P, but not a picture.
        self._images._checked_sizes(indices, view)
        return self._sizes(indices)

    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        boxes, mirrored = boxes.cpu(), self._mirrored(indices)
        boxes = torch.where(mirrored[:, None], _mirror(boxes, self._sizes(indices)), boxes)
        if self._resized:
            pixels = super()._regions(indices, boxes, shape, view)
        else:
            corners = self._crops(indices)[:, :2].repeat(1, 2)
            pixels = self._images._regions(indices, boxes + corners, shape, view)
        if bool(mirrored.any()):
            where = mirrored.to(pixels.device).view(-1, 1, 1, 1)
            pixels = torch.where(where, pixels.flip(3), pixels)
        return self._coloured(pixels, indices) if self._augmentation.color_jitter else pixels

    def _read(self, indices: Numbers) -> Tensor:
        """Crops, resized to the size of the set's images."""
        assert self.fixed_size is not None
        how = ViewConfig(size=max(self.fixed_size), interpolation="bicubic")
        crops = self._crops(indices)
        return self._images.originals._regions(indices, crops, self.fixed_size, how)

    def _mirrored(self, indices: Numbers) -> Tensor:
        """Whether each image is mirrored, (B,) bool."""
        return torch.from_numpy(self._augmentation.flip & (uniform(*self._keys, indices, 0) < 0.5))

    def _crops(self, indices: Numbers) -> Tensor:
        """The part of each original that is seen, (B, 4) as (top, left, bottom, right)."""
        sizes = self._images.originals._sizes(indices)
        if self._augmentation.crop_scale is None:
            return torch.cat([torch.zeros_like(sizes), sizes], dim=1)
        draws = uniform(*self._keys, indices[:, None], _CROPS).reshape(-1, _ATTEMPTS, 4)
        limits = self._augmentation.crop_scale, self._augmentation.crop_ratio
        return torch.from_numpy(random_resized_crop(draws, sizes.numpy(), *limits))

    def _coloured(self, pixels: Tensor, indices: Numbers) -> Tensor:
        """Views with other brightness, contrast and saturation, in this order, (B, C, h, w)."""
        draws = uniform(*self._keys, indices[:, None], _COLOURS)
        factors = 1 + self._augmentation.color_jitter * (2 * torch.from_numpy(draws) - 1)
        brightness, contrast, saturation = (
            factors.to(pixels.device).float()[..., None, None, None].unbind(1)
        )
        changed = (pixels * brightness - 127.5) * contrast + 127.5
        if pixels.shape[1] == 3:
            weights = torch.tensor(_LUMINANCE, device=pixels.device).view(1, 3, 1, 1)
            grey = (changed * weights).sum(dim=1, keepdim=True)
            changed = grey + (changed - grey) * saturation
        return changed.round().clamp(0, 255).to(pixels.dtype)

    def _seen(self, boxes: Tensor) -> Tensor:
        """Boxes of the set (N, 4) as they lie in the crops and mirror images."""
        indices = np.arange(len(self))
        sizes = self._sizes(indices)
        if self._augmentation.crop_scale is not None:
            crops = self._crops(indices)
            corner, sides = crops[:, :2], crops[:, 2:] - crops[:, :2]
            boxes = (boxes - corner.repeat(1, 2)) * (sizes / sides).repeat(1, 2)
            boxes = boxes.clamp(min=torch.zeros(4), max=sizes.repeat(1, 2))
        return torch.where(self._mirrored(indices)[:, None], _mirror(boxes, sizes), boxes)


def _mirror(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, 4) as they lie in the mirror images of pictures of sizes (B, 2)."""
    top, left, bottom, right = boxes.unbind(dim=1)
    return torch.stack([top, sizes[:, 1] - right, bottom, sizes[:, 1] - left], dim=1)


def augment(
    images: ImageSet, augmentation: Augmentation, *, seed: int = 0, epoch: int = 0
) -> ImageSet:
    """``AugmentedImages``, or the set itself if the augmentation changes nothing."""
    if not (augmentation.crop_scale or augmentation.flip or augmentation.color_jitter):
        return images
    return AugmentedImages(images, augmentation, seed=seed, epoch=epoch)
