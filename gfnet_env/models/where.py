"""The where-map: a head on the glance that says where informative windows lie."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.looks import MAX_SCALE, Look, ViewConfig, centred_locations

# Puts a cell that was looked at below all others.
_INHIBITION = 1e3
# A window that shares more than this of its area with another shows the same thing again.
_SHOWN = 0.2
_TINY = 1e-6


class WhereMap(nn.Module):
    """Rates the windows about the cells of a glance's feature map, at each of some scales.

    What it rates is the score of a window: how much the window alone says about the class.

    Args:
        num_classes: K.
        channels: Of the feature map, C.
        scales: Of the windows, S of them, see ``Look``.
        view: How windows are made.
        glance_view: How overviews are made.

    Raises:
        ValueError: A scale is given twice, or is larger than any picture.
    """

    scales: Tensor
    prior: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        scales: Sequence[float],
        view: ViewConfig,
        glance_view: ViewConfig,
    ) -> None:
        if len(set(scales)) < len(scales) or max(scales) > MAX_SCALE:
            raise ValueError(
                f"where_scales must be different and at most {MAX_SCALE:g}, not "
                f"{', '.join(map(str, scales))}"
            )
        super().__init__()
        self.view, self.glance_view = view, glance_view
        self.head = nn.Conv2d(channels, len(scales), 1)
        # Most windows say nothing. Places that were never scored must not come first.
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -4.0)
        self.register_buffer("prior", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float32), persistent=False)

    def forward(self, feature_map: Tensor, sizes: Tensor) -> Tensor:
        """Logits (B, S, h, w): high where a window says much, low where none can be centred.

        Args:
            feature_map: (B, C, h, w).
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        logits: Tensor = self.head(feature_map).float()
        return logits - _INHIBITION * ~self._reachable(sizes, logits.shape[2:])

    def expect(self, labels: Tensor) -> None:
        """Take the shares of classes among labels (N,) for what is known before any view."""
        counts = torch.bincount(labels, minlength=len(self.prior)).clamp(min=1).to(self.prior)
        self.prior.copy_(counts / counts.sum())

    def score(self, logits: Tensor) -> Tensor:
        """How much windows with logits (B, K) say about the class, (B,) in [0, 1].

        It is the Kullback-Leibler divergence of their class distributions from the prior, as a
        share of the largest possible.
        """
        logs = logits.float().log_softmax(dim=1)
        divergence = (logs.exp() * (logs - self.prior.log())).sum(dim=1)
        return (divergence / -self.prior.min().log()).clamp(0, 1)

    def peaks(self, heat: Tensor, sizes: Tensor) -> Look:
        """The best window of each picture.

        Args:
            heat: (B, S, h, w), less what was looked at.
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        return self.best(heat.flatten(1).argmax(dim=1)[:, None], sizes, heat)

    def best(self, numbers: Tensor, sizes: Tensor, heat: Tensor) -> Look:
        """``looks`` about peaks of the map; better cells weigh much more than others."""
        highest = heat.amax(dim=(1, 2, 3), keepdim=True)
        return self.looks(numbers, sizes, (2 * (heat - highest)).exp())

    def looks(self, numbers: Tensor, sizes: Tensor, weights: Tensor) -> Look:
        """Windows about cells, as nearly as the edges allow.

        Each is centred on the centroid of the weights of its cell and the eight around it: what
        fills a window is larger than a cell.

        Args:
            numbers: Of C cells of each picture, scale by scale and row by row, (B, C) int64.
            sizes: (H, W) of the pictures, (B, 2) int64.
            weights: Of the cells, (B, S, h, w) or (B, 1, h, w) for all scales, positive.

        Returns:
            B·C looks, picture by picture.
        """
        count, (height, width) = numbers.shape[1], weights.shape[2:]
        scale = self.scales[numbers // (height * width)]
        numbers = numbers % (weights.shape[1] * height * width)
        cell = _centroids(weights + _TINY, numbers)
        corner, extents = self.glance_view.frame(sizes)
        share = cell / torch.tensor([height, width], device=cell.device)
        centres = corner[:, None] + share * extents[:, None]
        sizes = sizes.repeat_interleave(count, dim=0)
        return self.centred(centres.flatten(0, 1), scale.flatten(), sizes)

    def centred(self, centres: Tensor, scale: Tensor, sizes: Tensor) -> Look:
        """Looks at scales (B,) whose windows are centred on points (B, 2), in pixels."""
        side = (scale * self.view.size).round().long()[:, None]
        return Look.at(centred_locations(centres, sizes, side), scale)

    def cell_of(self, boxes: Tensor, scale: Tensor, sizes: Tensor, cells: Sequence[int]) -> Tensor:
        """The number of the cell that holds the centre of each window, (B,) int64, see ``looks``.

        The scale is the nearest, by ratio, of those that the map has.

        Args:
            boxes: The windows, (B, 4).
            scale: Of the looks, (B,).
            sizes: (H, W) of the pictures, (B, 2) int64.
            cells: (h, w) of the map.
        """
        corner, extents = self.glance_view.frame(sizes)
        share = ((boxes[:, :2] + boxes[:, 2:]) / 2 - corner) / extents
        count = torch.tensor(cells, device=share.device)
        row, column = (share * count).long().clamp(min=0).minimum(count - 1).unbind(dim=1)
        nearest = (scale.log()[:, None] - self.scales.log()).abs().argmin(dim=1)
        return (nearest * cells[0] + row) * cells[1] + column

    def _reachable(self, sizes: Tensor, cells: Sequence[int]) -> Tensor:
        """Whether each cell can hold the centre of a window, (B, S, h, w) bool."""
        corner, extents = self.glance_view.frame(sizes)
        side = (self.scales * self.view.size).round()[None, :, None]
        # The centres nearest to two opposite edges, (B, S, 2); a large window has only one.
        first = torch.minimum(side, sizes[:, None]) / 2
        share = [
            (each - corner[:, None]) / extents[:, None] for each in (first, sizes[:, None] - first)
        ]
        along = []
        for axis, count in enumerate(cells):
            low, high = ((each[..., axis, None] * count).floor() for each in share)
            cell = torch.arange(count, device=sizes.device)
            along.append((cell >= low) & (cell <= high.clamp(max=count - 1)))
        return along[0][..., :, None] & along[1][..., None, :]

    def inhibited(self, heat: Tensor, boxes: Tensor, looks: Look, sizes: Tensor) -> Tensor:
        """The map after looks: what they have shown comes last, at their scale and all above.

        A cell is shown if a window of the same size about its middle would share more than a fifth
        of its area with the look's, or if it holds the middle of that window.

        Args:
            heat: (B, S, h, w).
            boxes: The windows of the looks, (B, 4), see ``ViewConfig.window_boxes``.
            looks: At B pictures.
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        cells = heat.shape[2:]
        number = self.cell_of(boxes, looks.scale, sizes, cells) % cells.numel()
        corner, extents = self.glance_view.frame(sizes)
        sides, middles = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
        along = []
        for axis, count in enumerate(cells):
            share = (torch.arange(count, device=boxes.device) + 0.5) / count
            cell = corner[:, axis, None] + share * extents[:, axis, None]
            apart = (cell - middles[:, axis, None]).abs() / sides[:, axis, None]
            along.append((1 - apart).clamp(min=0))
        shared = (along[0][:, :, None] * along[1][:, None, :]).flatten(1)
        shown = (shared > _SHOWN).scatter(1, number[:, None], True).view(-1, *cells)
        coarser = self.scales >= looks.scale[:, None] * (1 - 1e-4)
        return heat - _INHIBITION * (shown[:, None] & coarser[:, :, None, None])


def _centroids(weights: Tensor, numbers: Tensor) -> Tensor:
    """The centroids of cells (B, C) of maps (B, S, h, w), and the eight around each, (B, C, 2)."""
    height, width = weights.shape[2:]
    padded = functional.pad(weights, (1, 1, 1, 1))
    offsets = torch.arange(3, device=weights.device)
    cell = numbers[..., None]
    rows = cell // width % height + offsets
    columns = cell % width + offsets
    first = (cell // (height * width) * (height + 2) + rows) * (width + 2)
    around = (first[..., None] + columns[..., None, :]).flatten(1)
    found = padded.flatten(1).gather(1, around).view(*numbers.shape, 3, 3)
    # Cells outside weigh nothing; half a cell to the middle, less the padding.
    by_row, by_column = found.sum(dim=3), found.sum(dim=2)
    total = by_row.sum(dim=2)
    row, column = (
        (each * (place - 0.5)).sum(dim=2) / total
        for each, place in ((by_row, rows), (by_column, columns))
    )
    return torch.stack([row, column], dim=-1)
