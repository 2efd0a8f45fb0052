"""Scale whole images down without a second copy of them."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.looks import ViewConfig

Shape = tuple[int, int]

# Maximum bytes of the images that torch may copy at a time.
_BAND_BYTES = 2**24
# Number of channels that torch resizes fastest together.
_TOGETHER = 4


def resize(images: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
    """Resize images, reading each once, with little memory besides the images and the result.

    Args:
        images: (B, C, H, W), uint8 or floats.
        shape: (h, w) of the result.
        view: How to resize: ``interpolation``, ``antialias`` and ``align_corners``.

    Returns:
        (B, C, h, w); the images themselves if they have this shape. Floats stay floats and uint8
        stays uint8. If corners are aligned, the result is unrounded floats, as in the GFNet
        authors' release, which normalises first.
    """
    if images.shape[2:] == shape:
        return images
    copied = _copied_bytes(images, view)
    if copied <= _BAND_BYTES:
        return _as_type(_interpolate(images, shape, view), images.dtype, view)
    rows = max(1, images.shape[2] * _BAND_BYTES // copied)
    return resize_bands(torch.split(images, rows, dim=2), shape, view)


def resize_bands(bands: Iterable[Tensor], shape: Shape, view: ViewConfig) -> Tensor:
    """``resize`` for images that come in bands of rows, (B, C, r, W) each."""
    narrow = []
    for band in bands:
        kind = band.dtype
        # Columns first, as in torch, so that the result is the same, bit for bit.
        narrow.append(_interpolate(band, (band.shape[2], shape[1]), view))
    return _as_type(_interpolate(torch.cat(narrow, dim=2), shape, view), kind, view)


def _as_type(resized: Tensor, kind: torch.dtype, view: ViewConfig) -> Tensor:
    """Convert resized images to the type that ``resize`` returns for images of a type."""
    if resized.dtype == torch.uint8 or kind.is_floating_point or view.align_corners:
        return resized
    return resized.round().clamp(0, 255).to(torch.uint8)


def _copied_bytes(images: Tensor, view: ViewConfig) -> int:
    """Number of bytes that torch would copy to resize these images in one call."""
    if images.dtype == torch.float32:
        return 0
    if not _stays_uint8(images, view):
        return 4 * images.numel()
    # Pixels in the order of a decoded picture are not copied.
    in_order = images.is_contiguous(memory_format=torch.channels_last)
    return 0 if in_order else images.numel()


def _interpolate(pixels: Tensor, size: Shape, view: ViewConfig) -> Tensor:
    def how(part: Tensor) -> Tensor:
        return functional.interpolate(
            part,
            size,
            mode=view.interpolation,
            antialias=view.antialias,
            align_corners=view.align_corners,
        )

    if not _stays_uint8(pixels, view):
        return how(pixels.float())
    planes = pixels.shape[0] * pixels.shape[1]
    if planes < _TOGETHER or not pixels.is_contiguous():
        return how(pixels)
    # Faster, with the same result, bit for bit.
    flat = pixels.view(planes, *pixels.shape[2:])
    whole = planes - planes % _TOGETHER
    first = how(flat[:whole].view(-1, _TOGETHER, *flat.shape[1:])).view(whole, *size)
    rest = [how(flat[None, whole:])[0]] if whole < planes else []
    return torch.cat([first, *rest]).view(*pixels.shape[:2], *size)


def _stays_uint8(pixels: Tensor, view: ViewConfig) -> bool:
    """Whether to let torch resize uint8 without converting it to floats."""
    # Only a CPU can, and its result agrees with that of floats only if it antialiases: the bicubic
    # kernels differ.
    on_cpu = pixels.device.type == "cpu" and pixels.dtype == torch.uint8
    return on_cpu and view.antialias and not view.align_corners
