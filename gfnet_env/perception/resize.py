"""Scaling whole images down without a second copy of them."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bilinear", "bicubic"]

# What torch may copy of the images at a time.
_BAND_BYTES = 2**24


def check_interpolation(name: str) -> None:
    """Raises ``ValueError`` unless ``name`` is bilinear or bicubic."""
    if name not in ("bilinear", "bicubic"):
        raise ValueError(f"unknown interpolation {name!r}: bilinear or bicubic")


def resize(images: Tensor, size: int, interpolation: Interpolation, antialias: bool) -> Tensor:
    """Resize images to squares, reading each once.

    What this takes beside the images is bounded, but for a part of size/W of them.

    Args:
        images: (B, 3, H, W) uint8.
        size: Side of the result, in pixels.
        interpolation: bilinear or bicubic.
        antialias: Whether what is made smaller is low-pass filtered first.

    Returns:
        (B, 3, size, size) uint8; the images themselves where they have this size.
    """
    if images.shape[2:] == (size, size):
        return images
    copied = _copied_bytes(images, antialias)
    if copied <= _BAND_BYTES:
        resized = _interpolate(images, (size, size), interpolation, antialias)
    else:
        rows = max(1, images.shape[2] * _BAND_BYTES // copied)
        # Columns first, as a resize in one go does, so that the result is the same to the bit.
        narrow = [
            _interpolate(band, (band.shape[2], size), interpolation, antialias)
            for band in torch.split(images, rows, dim=2)
        ]
        resized = _interpolate(torch.cat(narrow, dim=2), (size, size), interpolation, antialias)
    if resized.dtype == torch.uint8:
        return resized
    return resized.round().clamp(0, 255).to(torch.uint8)


def _copied_bytes(images: Tensor, antialias: bool) -> int:
    """What torch would copy of these images to resize them in one go."""
    if not _as_it_is(images, antialias):
        return 4 * images.numel()
    # Pixels in the order of a decoded picture are read where they are.
    in_order = images.is_contiguous(memory_format=torch.channels_last)
    return 0 if in_order else images.numel()


def _interpolate(
    pixels: Tensor, size: tuple[int, int], interpolation: Interpolation, antialias: bool
) -> Tensor:
    pixels = pixels if _as_it_is(pixels, antialias) else pixels.float()
    return functional.interpolate(pixels, size, mode=interpolation, antialias=antialias)


def _as_it_is(pixels: Tensor, antialias: bool) -> bool:
    """Whether torch resizes these pixels without making floats of them."""
    # A CPU resizes uint8, but agrees with floats only where it antialiases: the bicubic kernels
    # differ. Other devices only know how to resize floats.
    return pixels.device.type == "cpu" and pixels.dtype == torch.uint8 and antialias
