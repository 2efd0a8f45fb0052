"""Pictures that are not kept: as Pillow decodes them, or on disk."""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from gfnet_env.images.large import LargePicture
from gfnet_env.images.picture import Array, as_array, bands
from gfnet_env.images.resize import Shape, resize, resize_bands
from gfnet_env.looks import ViewConfig

# Larger parts are resized band by band; the result is the same, bit for bit.
_WHOLE_BYTES = 2**22


class Decoded:
    """A decoded picture. Only the part that is seen is copied; a full copy takes 3 bytes per pixel.

    Args:
        picture: A picture of mode ``RGB`` or ``L``.

    Attributes:
        shape: (C, H, W).
        nbytes: Size of all pixels in bytes.
    """

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self.shape = (len(picture.getbands()), picture.height, picture.width)
        self.nbytes = math.prod(self.shape)

    def pixels(self) -> Tensor:
        """All pixels, (C, H, W) uint8."""
        return _tensor(as_array(self._picture))[0]

    def cut(self, box: Sequence[int], shape: Shape, view: ViewConfig) -> Tensor:
        """``cut_one`` of this picture, (1, C, h, w)."""
        top, left, bottom, right = box
        part = map(_tensor, bands(self._picture, (left, top, right, bottom)))
        size = bottom - top, right - left
        if size == shape or self.shape[0] * math.prod(size) <= _WHOLE_BYTES:
            return resize(torch.cat([*part], dim=2), shape, view)
        return resize_bands(part, shape, view)


class OnDisk:
    """A picture that is read from disk part by part.

    Args:
        picture: The picture.

    Attributes:
        shape: (C, H, W).
    """

    def __init__(self, picture: LargePicture) -> None:
        self._picture = picture
        height, width, channels = picture.shape
        self.shape = (channels, height, width)

    def cut(self, box: Sequence[int], shape: Shape, view: ViewConfig) -> Tensor:
        """``cut_one`` of this picture, (1, C, h, w), from its smallest copy that is fine enough."""
        top, left, bottom, right = box
        part = map(_tensor, self._picture.bands(box, shape))
        if (bottom - top, right - left) == shape:
            return torch.cat([*part], dim=2)
        return resize_bands(part, shape, view)


def _tensor(pixels: Array) -> Tensor:
    """Pixels (h, w, 3) or (h, w) as (1, C, h, w), without a copy."""
    return torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1)).permute(0, 3, 1, 2)
