"""Patch geometry: from a location in [-1, 1] to the pixels of a patch, and back.

Locations, corners and centres are all (row, column). Location -1 is the patch flush with the top or
left edge of the image, +1 flush with the bottom or right edge.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

CornerRounding = Literal["nearest", "floor"]


def check_rounding(rounding: str) -> None:
    """Raises ``ValueError`` unless ``rounding`` is a known way to round corners."""
    if rounding not in get_args(CornerRounding):
        known = ", ".join(get_args(CornerRounding))
        raise ValueError(f"unknown corner rounding {rounding!r}; known: {known}")


def patch_corners(
    locations: Tensor,
    image_size: tuple[int, int] | Tensor,
    patch_size: int,
    rounding: CornerRounding,
) -> Tensor:
    """The top left pixel of each patch.

    Args:
        locations: (B, 2) in [-1, 1]. In float64, what was a float32 share of the way in [0, 1] has
            lost nothing, and gives the corner that it would give itself.
        image_size: (H, W) of all images, or (B, 2) int64 of each; none smaller than the patch.
        patch_size: Side of the patch.
        rounding: To the nearest pixel, or down.

    Returns:
        (B, 2) int64, rows in [0, H - patch_size], columns in [0, W - patch_size].
    """
    room = torch.as_tensor(image_size, device=locations.device) - patch_size
    exact = locations if locations.dtype == torch.float64 else locations.float()
    # Rounded to float32 in the end, as a product of float32 would be.
    corners = ((exact + 1) / 2 * room).float()
    rounded = corners.round() if rounding == "nearest" else corners.floor()
    return torch.minimum(rounded.long().clamp(min=0), room)


def centred_locations(centres: Tensor, image_size: tuple[int, int], patch_size: int) -> Tensor:
    """Locations whose patches are centred at the given points, as nearly as the edges allow.

    Args:
        centres: (B, 2) in pixels.
        image_size: (H, W).
        patch_size: Side of the patch.

    Returns:
        (B, 2) float32 in [-1, 1]; 0 along an axis on which the patch spans the image.
    """
    room = torch.tensor(image_size, device=centres.device) - patch_size
    locations = 2 * (centres - patch_size / 2) / room.clamp(min=1) - 1
    return torch.where(room > 0, locations.clamp(-1, 1), 0.0).float()


def lattice(cells: int) -> Tensor:
    """Locations that lie evenly over an image, edges included, row by row.

    Args:
        cells: Along each axis; one is the centre.

    Returns:
        (cells², 2) float32 in [-1, 1].

    Raises:
        ValueError: There are no cells.
    """
    if cells < 1:
        raise ValueError(f"a lattice must have at least 1 cell along each axis, not {cells}")
    axis = torch.linspace(-1, 1, cells) if cells > 1 else torch.zeros(1)
    return torch.cartesian_prod(axis, axis)


def nearest_cell(locations: Tensor, cells: int) -> Tensor:
    """Which locations of the ``lattice`` are nearest to locations (B, 2): (B,) int64."""
    row, column = ((locations + 1) / 2 * (cells - 1)).round().long().unbind(dim=1)
    return row * cells + column


def covered(
    corners: Tensor, image_size: tuple[int, int] | Tensor, patch_size: int, grid: tuple[int, int]
) -> Tensor:
    """How much of each cell of a grid over the image a patch covers.

    Args:
        corners: Top left pixels, (B, 2).
        image_size: (H, W) of all images, or (B, 2) int64 of each.
        patch_size: Side of the patch.
        grid: Cells (h, w) that the image is divided into.

    Returns:
        (B, h, w) float32 in [0, 1].
    """
    sizes = torch.as_tensor(image_size, device=corners.device).expand_as(corners)
    along = []
    for axis, cells in enumerate(grid):
        scale = cells / sizes[:, axis, None]
        first = corners[:, axis, None] * scale
        cell = torch.arange(cells, device=corners.device)
        overlap = torch.minimum(first + patch_size * scale, cell + 1) - first.maximum(cell)
        along.append(overlap.clamp(0, 1))
    return along[0][:, :, None] * along[1][:, None, :]


def crop_patches(images: Tensor, rows: Tensor, corners: Tensor, patch_size: int) -> Tensor:
    """Cut one patch out of each of some images, reading the patches' pixels and no others.

    Args:
        images: (B, 3, H, W).
        rows: Which images, (R,) int64 in [0, B).
        corners: Top left pixels, (R, 2).
        patch_size: Side of the patch.

    Returns:
        (R, 3, patch_size, patch_size).
    """
    # A view of every possible patch: no pixel is copied until the chosen ones are gathered.
    windows = images.unfold(2, patch_size, 1).unfold(3, patch_size, 1)
    return windows[rows, :, corners[:, 0], corners[:, 1]]


def check_locations(locations: Tensor, count: int) -> None:
    """Raises ``ValueError`` unless ``locations`` is (count, 2) in [-1, 1] without NaN."""
    if locations.shape != (count, 2):
        raise ValueError(
            f"locations must be ({count}, 2), a (row, column) per image, "
            f"not {tuple(locations.shape)}"
        )
    if not locations.is_floating_point():
        raise ValueError(f"locations must be floating point in [-1, 1], not {locations.dtype}")
    inside = locations.abs() <= 1
    if not bool(inside.all()):
        wrong = locations[~inside][0].item()
        raise ValueError(
            f"locations must lie in [-1, 1]; one is {wrong}. "
            "Clip what a policy emits, and look for NaN in its weights"
        )


def check_images(images: Tensor, normalised: bool = False) -> None:
    """Raises ``ValueError`` unless ``images`` are (B, 3, H, W) uint8, or normalised floats."""
    if normalised and not images.is_floating_point():
        raise ValueError(f"normalised images must be floating point, not {images.dtype}")
    if not normalised and images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 in 0..255, not {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), not {tuple(images.shape)}")
