"""Random crops and mirror images of training pictures, drawn anew in every epoch."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data.images import ImageSet
from gfnet_env.randomness import uniform

# A key of its own: scenes and random patches must not hang on the numbers that are drawn here.
_STREAM = 0x61756721
# Crops to draw before the middle of a picture is taken, and the numbers that one takes.
_ATTEMPTS = 10
_NUMBERS = 4


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may be done to a training picture; by default nothing."""

    crop_scale: tuple[float, float] | None = None
    """Least and greatest share of a training picture's area that a random crop keeps, often
    0.08 1; by default pictures are not cropped at random."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest width of a random crop as a multiple of its height."""
    flip: bool = False
    """Whether to mirror half of the training images."""

    def __post_init__(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"crop_scale must be two rising shares of the area in (0, 1], not {self.crop_scale}"
            )
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1] < float("inf"):
            raise ValueError(
                f"crop_ratio must be two rising positive numbers, not {self.crop_ratio}"
            )


def random_resized_crop(
    draws: npt.NDArray[np.float64],
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> npt.NDArray[np.int64]:
    """Where to crop pictures at random (Szegedy et al., "Going Deeper with Convolutions", 2015).

    As ``torchvision.transforms.v2.RandomResizedCrop`` does it: the first of ten crops that fits, or
    else the middle of the picture; but from given numbers instead of a generator.

    Args:
        draws: Uniform numbers in [0, 1), (..., 10, 4).
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        scale: Least and greatest share of a picture's area.
        ratio: Least and greatest width over height; uniform in its logarithm.

    Returns:
        (..., 4) as (top, left, bottom, right) in pixels.
    """
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * draws[..., 1])
    sides = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1).round()
    room = np.array([height, width]) - sides
    corners = np.floor(draws[..., 2:] * (room + 1))
    crops = np.concatenate([corners, corners + sides], axis=-1).astype(np.int64)
    fits = ((sides >= 1) & (room >= 0)).all(axis=-1)
    first = np.take_along_axis(crops, fits.argmax(axis=-1)[..., None, None], axis=-2).squeeze(-2)
    return np.where(fits.any(axis=-1)[..., None], first, _middle(height, width, ratio))


def _middle(height: int, width: int, ratio: tuple[float, float]) -> npt.NDArray[np.int64]:
    """The greatest crop about the middle whose ratio is within bounds, (4,)."""
    sides = np.array([min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))])
    sides = sides.clip(min=1)
    corner = (np.array([height, width]) - sides) // 2
    return np.concatenate([corner, corner + sides])


class AugmentedImages(ImageSet):
    """A set as it is seen in one epoch of training.

    What is drawn for an image is a function of (seed, epoch, index) only: it is the same whatever
    shares its batch, whichever process reads it, and whenever a run that was cut short goes on.

    Pictures that are decoded when asked for are cropped at their full resolution, images in memory
    at the one they have; both keep the size that the set serves. Boxes follow the crop and the
    mirror; what of an object is outside is cut off, so that the box of one that is not seen at all
    is empty and on the edge.

    Args:
        images: The set.
        augmentation: What may be done to its images.
        seed: With the epoch and an image's index it fixes what is done.
        epoch: Which epoch, from 0.
    """

    def __init__(
        self, images: ImageSet, augmentation: Augmentation, *, seed: int, epoch: int
    ) -> None:
        self.labels = images.labels
        self.class_names = images.class_names
        self._images = images
        self._augmentation = augmentation
        self._keys = (_STREAM, seed, epoch)
        if images.boxes is not None:
            self.boxes = self._seen(images.boxes)

    def _mirrored(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return uniform(*self._keys, indices, 0) < 0.5

    def _crop_draws(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The numbers that fix the crop of each image, (B, 10, 4)."""
        numbers = np.arange(1, 1 + _ATTEMPTS * _NUMBERS)
        draws = uniform(*self._keys, indices[:, None], numbers)
        return draws.reshape(-1, _ATTEMPTS, _NUMBERS)

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        scale, ratio = self._augmentation.crop_scale, self._augmentation.crop_ratio
        if scale is None:
            pixels = self._images[indices]
        else:
            crop = partial(random_resized_crop, scale=scale, ratio=ratio)
            draws = self._crop_draws(indices)
            pixels = self._images.read_crops(indices, [partial(crop, drawn) for drawn in draws])
        if self._augmentation.flip:
            mirrored = torch.from_numpy(self._mirrored(indices)).view(-1, 1, 1, 1)
            pixels = torch.where(mirrored, pixels.flip(3), pixels)
        return pixels

    def _seen(self, boxes: Tensor) -> Tensor:
        """Where boxes of the set lie in what is seen of its images, (N, 4)."""
        height, width = self._images[[0]].shape[2:]
        indices = np.arange(len(self))
        scale, ratio = self._augmentation.crop_scale, self._augmentation.crop_ratio
        if scale is not None:
            draws = self._crop_draws(indices)
            crops = torch.from_numpy(random_resized_crop(draws, height, width, scale, ratio))
            corner, sides = crops[:, :2], crops[:, 2:] - crops[:, :2]
            size = torch.tensor([height, width])
            boxes = (boxes - corner.repeat(1, 2)) * (size / sides).repeat(1, 2)
            boxes = boxes.clamp(min=torch.zeros(4), max=size.repeat(2))
        if self._augmentation.flip:
            top, left, bottom, right = boxes.unbind(dim=1)
            flipped = torch.stack([top, width - right, bottom, width - left], dim=1)
            mirrored = torch.from_numpy(self._mirrored(indices))
            boxes = torch.where(mirrored[:, None], flipped, boxes)
        return boxes


def augment(
    images: ImageSet, augmentation: Augmentation, *, seed: int = 0, epoch: int = 0
) -> ImageSet:
    """``AugmentedImages``, or the set itself where nothing may be done to its images."""
    if augmentation.crop_scale is None and not augmentation.flip:
        return images
    return AugmentedImages(images, augmentation, seed=seed, epoch=epoch)
