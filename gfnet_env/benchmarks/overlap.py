"""Measure whether looks lie on the object."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.evaluation import Record
from gfnet_env.images import ImageSet, Masks
from gfnet_env.looks import Look, ViewConfig

_BATCH_SIZE = 64


@dataclass(frozen=True)
class Overlap:
    """How the looks at N images cover their objects, look by look.

    Attributes:
        centred: 1 if the centre of the window is on the object, else 0, (N, T - 1): the pointing
            game of Zhang et al., "Top-down Neural Attention by Excitation Backprop" (2016). NaN
            where no look was taken.
        covered: Share of the object that windows have covered so far, (N, T - 1) in [0, 1].
    """

    centred: npt.NDArray[np.float64]
    covered: npt.NDArray[np.float64]


def measure_overlaps(
    view: ViewConfig, images: ImageSet, records: Mapping[str, Record], masks: Masks
) -> dict[str, Overlap]:
    """The overlap of recorded looks with the objects; images that show no object are left out.

    Args:
        view: How windows are cut, see ``ViewConfig``.
        images: The set.
        records: Records by name, all on images of that set.
        masks: Masks of that set.

    Raises:
        ValueError: No image of a record shows an object.
    """
    found: dict[str, list[tuple[list[float], list[float]]]] = {name: [] for name in records}
    boxes = {name: _boxes(view, images, record) for name, record in records.items()}
    indices = np.unique(np.concatenate([record.indices for record in records.values()]))
    for first in range(0, len(indices), _BATCH_SIZE):
        batch = indices[first : first + _BATCH_SIZE]
        objects = dict(zip(batch.tolist(), masks(batch), strict=True))
        for name, record in records.items():
            for row in np.flatnonzero(np.isin(record.indices, batch)):
                mask = objects[int(record.indices[row])]
                if bool(mask.any()):
                    found[name].append(_overlap(mask, boxes[name][row].tolist()))
    for name, parts in found.items():
        if not parts:
            raise ValueError(
                f"none of the {len(records[name].indices)} images shows an object; check whether "
                "its masks are empty"
            )
    return {name: Overlap(*np.array(parts).swapaxes(0, 1)) for name, parts in found.items()}


def _boxes(view: ViewConfig, images: ImageSet, record: Record) -> Tensor:
    """The windows of a record, (N, T - 1, 4) in pixels; empty where no look was taken."""
    count, steps = record.scales.shape
    sizes = images.sizes(record.indices).repeat_interleave(steps, dim=0)
    locations = torch.from_numpy(record.locations).flatten(0, 1)
    scales = torch.from_numpy(record.scales).flatten()
    boxes = view.window_boxes(Look.at(locations.nan_to_num(0), scales.nan_to_num(1)), sizes)
    boxes[scales.isnan()] = 0
    return boxes.view(count, steps, 4)


def _overlap(mask: Tensor, windows: list[list[int]]) -> tuple[list[float], list[float]]:
    """``centred`` and ``covered`` of the windows at one image whose object is ``mask``, (H, W)."""
    hidden, total = mask.clone(), int(mask.sum())
    centred, covered = [], []
    for top, left, bottom, right in windows:
        looked = bottom > top
        centred.append(float(mask[(top + bottom) // 2, (left + right) // 2]) if looked else np.nan)
        hidden[top:bottom, left:right] = False
        covered.append((total - int(hidden.sum())) / total)
    return centred, covered
