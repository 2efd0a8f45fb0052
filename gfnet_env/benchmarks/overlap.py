"""Whether patches lie on the object."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data import Masks
from gfnet_env.inference import Record
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.geometry import patch_corners

_BATCH_SIZE = 64


@dataclass(frozen=True)
class Overlap:
    """How the patches of N images lie to their objects, step by step.

    Attributes:
        centred: Whether the centre of the patch is on the object, (N, T - 1) bool: the pointing
            game of Zhang et al., "Top-down Neural Attention by Excitation Backprop" (2016).
        covered: Share of the object that patches have covered so far, (N, T - 1) in [0, 1].
    """

    centred: npt.NDArray[np.bool_]
    covered: npt.NDArray[np.float64]


def measure_overlaps(
    network: GlanceFocusNetwork, records: Mapping[str, Record], masks: Masks
) -> dict[str, Overlap]:
    """The overlap of recorded patches with the objects; images that show no object are left out.

    Args:
        network: Whose patches they are.
        records: By name, all of images of one set.
        masks: Of that set.

    Raises:
        ValueError: No image of a record shows an object.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in records}
    indices = np.unique(np.concatenate([record.indices for record in records.values()]))
    for first in range(0, len(indices), _BATCH_SIZE):
        numbers = indices[first : first + _BATCH_SIZE]
        batch = masks(numbers)
        shows = batch.flatten(1).any(dim=1)
        for name, record in records.items():
            _, of_record, of_batch = np.intersect1d(record.indices, numbers, return_indices=True)
            rows = torch.from_numpy(of_batch)
            shown = shows[rows]
            locations = torch.from_numpy(record.locations[of_record])[shown]
            found[name].append(_overlap(network, locations, batch[rows][shown]))
    overlaps = {}
    for name, parts in found.items():
        centred, covered = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        if len(centred) == 0:
            raise ValueError(
                f"none of the {len(records[name].indices)} images shows an object; look whether "
                "its masks are empty"
            )
        overlaps[name] = Overlap(centred, covered.astype(np.float64))
    return overlaps


def _overlap(
    network: GlanceFocusNetwork, locations: Tensor, objects: Tensor
) -> tuple[Tensor, Tensor]:
    """``centred`` and ``covered`` of patches (B, S, 2) and objects (B, H, W), none empty."""
    count, steps = locations.shape[:2]
    height, width = objects.shape[1:]
    side, rounding = network.patch_size, network.config.corner_rounding
    corners = patch_corners(locations.flatten(0, 1), (height, width), side, rounding)
    top, left = corners.view(count, steps, 2).unbind(dim=2)
    rows = torch.arange(count)[:, None].expand(count, steps)
    centred = objects[rows, top + side // 2, left + side // 2]

    in_rows = _spans(top, side, height)
    in_columns = _spans(left, side, width)
    seen = torch.zeros_like(objects)
    covered = []
    for step in range(steps):
        seen = seen | (in_rows[:, step, :, None] & in_columns[:, step, None, :])
        covered.append((seen & objects).sum(dim=(1, 2)) / objects.sum(dim=(1, 2)))
    return centred, torch.stack(covered, dim=1)


def _spans(first: Tensor, length: int, size: int) -> Tensor:
    """Which of ``size`` pixels lie in spans that begin at ``first`` (B, S): (B, S, size) bool."""
    offset = torch.arange(size) - first[..., None]
    return (offset >= 0) & (offset < length)
