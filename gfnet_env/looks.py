"""Looks: where to look next, and the pixels of the window there.

Locations, corners and sizes are all (row, column). At location -1 the window is flush with the top
or left edge of the picture, at +1 with the bottom or right edge.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from torch import Tensor

from gfnet_env.settings import AtLeast, AtMost, checked

CornerRounding = Literal["nearest", "floor"]
Interpolation = Literal["bilinear", "bicubic"]
Aspect = Literal["stretch", "pad"]

# Far beyond any picture, and well within float32.
MAX_SCALE = 1e9
Scale = Annotated[float, AtLeast(1), AtMost(MAX_SCALE)]
# More would be as many locations as a large picture has pixels.
_MOST_CELLS = 1000


@dataclass(frozen=True)
class Look:
    """Where to look next, one row for each of B pictures.

    Attributes:
        location: (B, 2) in [-1, 1], relative to each picture.
        scale: Side of the window in multiples of P pixels at full resolution, (B,), at least 1. A
            window larger than the picture shows all of it.
        stop: Whether to stop instead, (B,) bool; location and scale are then ignored.
    """

    location: Tensor
    scale: Tensor
    stop: Tensor

    @classmethod
    def at(cls, location: Tensor, scale: Tensor | None = None, stop: Tensor | None = None) -> Self:
        """Looks at locations (B, 2), by default at full resolution and without a stop.

        Raises:
            TypeError: A value is no tensor.
        """
        for name, value in (("location", location), ("scale", scale), ("stop", stop)):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"{name} of looks must be a tensor with a row for each picture, not "
                    f"{type(value).__name__}"
                )
        count = location.shape[:1]
        return cls(
            location,
            location.new_ones(count, dtype=torch.float32) if scale is None else scale,
            location.new_zeros(count, dtype=torch.bool) if stop is None else stop,
        )

    def __len__(self) -> int:
        return len(self.location)

    def clipped(self) -> Self:
        """These looks with all finite locations in [-1, 1]."""
        inside = self.location.clamp(-1, 1)
        location = torch.where(self.location.isfinite(), inside, self.location)
        return dataclasses.replace(self, location=location)

    def check(self, count: int) -> None:
        """Raise ``ValueError`` unless these are ``count`` looks within their ranges."""
        check_locations(self.location, count)
        for name, tensor, kind, fits in (
            ("scale", self.scale, "floating point", self.scale.is_floating_point()),
            ("stop", self.stop, "bool", self.stop.dtype == torch.bool),
        ):
            if tensor.shape != (count,) or not fits:
                raise ValueError(
                    f"{name} of looks must be ({count},) {kind}, not {tuple(tensor.shape)} "
                    f"{tensor.dtype}"
                )
        inside = (self.scale >= 1) & self.scale.isfinite()
        if not bool(inside.all()):
            wrong = self.scale[~inside][0].item()
            raise ValueError(
                f"scales must be at least 1, full resolution, and finite; one is {wrong}"
            )


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How to make views of pictures.

    Attributes:
        size: P, side of every view, in pixels.
        interpolation: How to resize an overview, or a window of a scale above 1, to P×P.
        antialias: Whether to low-pass filter it before it is reduced.
        align_corners: Whether corner pixels keep their centres in an overview, see ``resize``.
        aspect: How an overview becomes square: ``stretch``, or ``pad`` with black on both sides.
        rounding: How to round a location to the pixel of the window's corner.
    """

    size: int
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    align_corners: bool = False
    aspect: Aspect = "stretch"
    rounding: CornerRounding = "nearest"

    def window_boxes(self, looks: Look, sizes: Tensor) -> Tensor:
        """The boxes of pixels that looks show.

        Args:
            looks: Looks at B pictures.
            sizes: (H, W) of each picture, (B, 2) int64; none smaller than P.

        Returns:
            (B, 4) int64 as (top, left, bottom, right), within the pictures.
        """
        # No picture is larger, and larger numbers are none of int64.
        side = (looks.scale * self.size).round().clamp(max=2**31).long()[:, None]
        extents = torch.minimum(side, sizes)
        corners = window_corners(looks.location, sizes - extents, self.rounding)
        return torch.cat([corners, corners + extents], dim=1)

    def frame(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The frame of overviews in pictures: corners and extents in pixels, (B, 2) int64 each.

        The frame of a padded overview is larger than the picture.
        """
        if self.aspect == "stretch":
            return torch.zeros_like(sizes), sizes
        side = sizes.amax(dim=1, keepdim=True).expand_as(sizes)
        return -((side - sizes) // 2), side

    def covered(self, boxes: Tensor, sizes: Tensor, cells: tuple[int, int]) -> Tensor:
        """The share of each cell of a map of the overview that a window covers.

        Args:
            boxes: Boxes of B windows, see ``window_boxes``.
            sizes: (H, W) of each picture, (B, 2) int64.
            cells: (h, w) of the map.

        Returns:
            (B, h, w) float32 in [0, 1].
        """
        corner, extents = self.frame(sizes)
        scale = extents.float().reciprocal() * torch.tensor(cells, device=boxes.device)
        first = (boxes[:, :2] - corner) * scale
        last = first + (boxes[:, 2:] - boxes[:, :2]) * scale
        along = []
        for axis, count in enumerate(cells):
            cell = torch.arange(count, device=boxes.device)
            overlap = last[:, axis, None].minimum(cell + 1) - first[:, axis, None].maximum(cell)
            along.append(overlap.clamp(0, 1))
        return along[0][:, :, None] * along[1][:, None, :]

    def cell_locations(self, sizes: Tensor, cells: tuple[int, int]) -> Tensor:
        """Locations whose windows are centred on the cells of a map of the overview.

        Args:
            sizes: (H, W) of B pictures, (B, 2) int64.
            cells: (h, w) of the map.

        Returns:
            (B, h·w, 2) float32, row by row.
        """
        corner, extents = self.frame(sizes)
        shares = torch.cartesian_prod(
            *((torch.arange(n, device=sizes.device) + 0.5) / n for n in cells)
        ).view(-1, 2)
        centres = corner[:, None] + shares * extents[:, None]
        count = len(shares)
        flat = centred_locations(
            centres.flatten(0, 1), sizes.repeat_interleave(count, dim=0), self.size
        )
        return flat.view(-1, count, 2)


def window_corners(locations: Tensor, room: Tensor, rounding: CornerRounding) -> Tensor:
    """The top left pixel of each window.

    Args:
        locations: (B, 2) in [-1, 1]. If they are float64, a float32 share in [0, 1] that was mapped
            to [-1, 1] gives the same corner as the share itself.
        room: Number of pixels that a window can move along each axis, (B, 2) int64 or (2,).
        rounding: Whether to round to the nearest pixel, or down.

    Returns:
        (B, 2) int64 in [0, room].
    """
    exact = locations if locations.dtype == torch.float64 else locations.float()
    # Rounded to float32, to match a product in float32.
    corners = ((exact + 1) / 2 * room).float()
    rounded = corners.round() if rounding == "nearest" else corners.floor()
    return torch.minimum(rounded.long().clamp(min=0), room)


def centred_locations(centres: Tensor, sizes: Tensor, window: int | Tensor) -> Tensor:
    """Locations of windows that are centred at given points, as nearly as the edges allow.

    Args:
        centres: (B, 2) in pixels.
        sizes: (H, W) of each picture, (B, 2) int64.
        window: Side of the windows, in pixels; one number for all, or (B, 1) int64.

    Returns:
        (B, 2) float32 in [-1, 1]; 0 along an axis on which the window spans the picture.
    """
    room = sizes.to(centres.device) - window
    locations = 2 * (centres - window / 2) / room.clamp(min=1) - 1
    return torch.where(room > 0, locations.clamp(-1, 1), 0.0).float()


def lattice(cells: int) -> Tensor:
    """Locations spread evenly over a picture, edges included, row by row.

    Args:
        cells: Number of locations along each axis, at most 1,000; 1 gives the centre.

    Returns:
        (cells², 2) float32 in [-1, 1].

    Raises:
        ValueError: ``cells`` is out of range.
    """
    cells = checked("cells", cells, int)
    if cells < 1:
        raise ValueError(f"a lattice must have at least 1 cell along each axis, not {cells}")
    if cells > _MOST_CELLS:
        raise ValueError(
            f"a lattice may have at most {_MOST_CELLS:,} cells along each axis, not {cells}"
        )
    axis = torch.linspace(-1 if cells > 1 else 0, 1, cells, dtype=torch.float32)
    return torch.cartesian_prod(axis, axis)


def nearest_cell(locations: Tensor, cells: int) -> Tensor:
    """The numbers of the ``lattice`` locations nearest to locations (B, 2): (B,) int64."""
    row, column = ((locations + 1) / 2 * (cells - 1)).round().long().unbind(dim=1)
    return row * cells + column


def check_locations(locations: Tensor, count: int) -> None:
    """Raise ``ValueError`` unless ``locations`` is (count, 2) in [-1, 1] without NaN."""
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
            f"locations must lie in [-1, 1]; one is {wrong}; look for NaN in the weights of the "
            "policy, and in the pixels"
        )
