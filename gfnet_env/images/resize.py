"""Scaling whole images down without a second copy of them."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.looks import ViewConfig

# What torch may copy of the images at a time.
_BAND_BYTES = 2**24
# Planes of pixels that are resized together.
_TOGETHER = 4


def resize(images: Tensor, shape: tuple[int, int], view: ViewConfig) -> Tensor:
    """Resize images, reading each once.

    What this takes beside the images is bounded, but for a part of w/W of them.

    Args:
        images: (B, C, H, W), uint8 or floats.
        shape: (h, w) of the result.
        view: How: ``interpolation``, ``antialias``, and ``align_corners``: whether the centres of
            the corner pixels, not the corners of the images, stay where they are.

    Returns:
        (B, C, h, w), the images themselves where they have this shape. Of floats, floats; of uint8,
        uint8, but floats that are not rounded where corners are aligned, as in the release of
        GFNet's authors, who normalise first.
    """
    if images.shape[2:] == shape:
        return images
    how = (view.interpolation, view.antialias, view.align_corners)
    copied = _copied_bytes(images, view.antialias, view.align_corners)
    if copied <= _BAND_BYTES:
        resized = _interpolate(images, shape, *how)
    else:
        rows = max(1, images.shape[2] * _BAND_BYTES // copied)
        # Columns first, as a resize in one go does, so that the result is the same to the bit.
        narrow = [
            _interpolate(band, (band.shape[2], shape[1]), *how)
            for band in torch.split(images, rows, dim=2)
        ]
        resized = _interpolate(torch.cat(narrow, dim=2), shape, *how)
    if resized.dtype == torch.uint8 or images.is_floating_point() or view.align_corners:
        return resized
    return resized.round().clamp(0, 255).to(torch.uint8)


def _copied_bytes(images: Tensor, antialias: bool, align_corners: bool) -> int:
    """What torch would copy of these images to resize them in one go."""
    if images.dtype == torch.float32:
        return 0
    if not _as_it_is(images, antialias, align_corners):
        return 4 * images.numel()
    # Pixels in the order of a decoded picture are read where they are.
    in_order = images.is_contiguous(memory_format=torch.channels_last)
    return 0 if in_order else images.numel()


def _interpolate(
    pixels: Tensor,
    size: tuple[int, int],
    interpolation: str,
    antialias: bool,
    align_corners: bool,
) -> Tensor:
    how = partial(
        functional.interpolate,
        size=size,
        mode=interpolation,
        antialias=antialias,
        align_corners=align_corners,
    )
    if not _as_it_is(pixels, antialias, align_corners):
        return how(pixels.float())
    planes = pixels.shape[0] * pixels.shape[1]
    if planes < _TOGETHER or not pixels.is_contiguous():
        return how(pixels)
    # Torch is fastest with four channels at a time, and the result is the same to the bit.
    flat = pixels.view(planes, *pixels.shape[2:])
    whole = planes - planes % _TOGETHER
    first = how(flat[:whole].view(-1, _TOGETHER, *flat.shape[1:])).view(whole, *size)
    rest = [how(flat[None, whole:])[0]] if whole < planes else []
    return torch.cat([first, *rest]).view(*pixels.shape[:2], *size)


def _as_it_is(pixels: Tensor, antialias: bool, align_corners: bool) -> bool:
    """Whether torch resizes these pixels without making floats of them."""
    # A CPU resizes uint8, but agrees with floats only where it antialiases: the bicubic kernels
    # differ. Other devices only know how to resize floats.
    on_cpu = pixels.device.type == "cpu"
    return on_cpu and pixels.dtype == torch.uint8 and antialias and not align_corners
