"""The where-map: a head on the glance that says where informative windows lie."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfnet_env.looks import Look, ViewConfig, centred_locations

# Puts a cell that was looked at below all others.
_INHIBITION = 1e3


class WhereMap(nn.Module):
    """Rates the windows about the cells of a glance's feature map, at each of some scales.

    Args:
        channels: Of the feature map, C.
        scales: Of the windows, S of them, see ``Look``.
        view: How windows are made.
        glance_view: How overviews are made.
    """

    scales: Tensor

    def __init__(
        self, channels: int, scales: Sequence[float], view: ViewConfig, glance_view: ViewConfig
    ) -> None:
        super().__init__()
        self.view, self.glance_view = view, glance_view
        self.head = nn.Conv2d(channels, len(scales), 1)
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float32), persistent=False)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits (B, S, h, w) of a feature map (B, C, h, w): high where a window says much."""
        return self.head(feature_map).float()

    def peaks(self, where: Tensor, sizes: Tensor) -> Look:
        """The best window of each picture.

        Args:
            where: (B, S, h, w), less what was looked at.
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        return self.looks(where.flatten(1).argmax(dim=1), sizes, where.shape[2:])

    def looks(self, numbers: Tensor, sizes: Tensor, cells: Sequence[int]) -> Look:
        """Windows that are centred on cells, as nearly as the edges allow.

        Args:
            numbers: Of the cells, scale by scale and row by row, (B,) int64 in [0, S·h·w).
            sizes: (H, W) of the pictures, (B, 2) int64.
            cells: (h, w) of the map.
        """
        height, width = cells
        scale = self.scales[numbers // (height * width)]
        place = numbers % (height * width)
        cell = torch.stack([place // width, place % width], dim=1)
        corner, extents = self.glance_view.frame(sizes)
        share = (cell + 0.5) / torch.tensor([height, width], device=cell.device)
        return self.centred(corner + share * extents, scale, sizes)

    def centred(self, centres: Tensor, scale: Tensor, sizes: Tensor) -> Look:
        """Looks at scales (B,) whose windows are centred on points (B, 2), in pixels."""
        side = (scale * self.view.size).round().long()[:, None]
        return Look.at(centred_locations(centres, sizes, side), scale)

    def cell_of(self, looks: Look, sizes: Tensor, cells: Sequence[int]) -> Tensor:
        """The number of the cell that holds the centre of each window, (B,) int64, see ``looks``.

        The scale is the nearest, by ratio, of those that the map has.
        """
        boxes = self.view.window_boxes(looks, sizes)
        corner, extents = self.glance_view.frame(sizes)
        share = ((boxes[:, :2] + boxes[:, 2:]) / 2 - corner) / extents
        count = torch.tensor(cells, device=share.device)
        row, column = (share * count).long().clamp(min=0).minimum(count - 1).unbind(dim=1)
        nearest = (looks.scale.log()[:, None] - self.scales.log()).abs().argmin(dim=1)
        return (nearest * cells[0] + row) * cells[1] + column

    def inhibited(self, where: Tensor, covered: Tensor, looks: Look, sizes: Tensor) -> Tensor:
        """The map after looks: what they have shown comes last, at their scale and all above.

        Args:
            where: (B, S, h, w).
            covered: Share of each cell that the window covered, (B, h, w). A cell is shown if half
                of it was, or if it holds the window's centre.
            looks: At B pictures.
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        cells = covered.shape[1:]
        number = self.cell_of(looks, sizes, cells) % cells.numel()
        shown = (covered >= 0.5).flatten(1).scatter(1, number[:, None], True).view_as(covered)
        coarser = self.scales >= looks.scale[:, None] * (1 - 1e-4)
        return where - _INHIBITION * (shown[:, None] & coarser[:, :, None, None])
