"""Whether looks lie on the object."""

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
    """How the looks at N images lie to their objects, step by step.

    Attributes:
        centred: 1 where the centre of the window is on the object, else 0, (N, T - 1): the pointing
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
        view: How windows are made.
        images: The set.
        records: By name, all of images of that set.
        masks: Of that set.

    Raises:
        ValueError: No image of a record shows an object.
    """
    found: dict[str, list[tuple[list[float], list[float]]]] = {name: [] for name in records}
    indices = np.unique(np.concatenate([record.indices for record in records.values()]))
    for first in range(0, len(indices), _BATCH_SIZE):
        numbers = indices[first : first + _BATCH_SIZE]
        objects = masks(numbers)
        for name, record in records.items():
            _, rows, of_batch = np.intersect1d(record.indices, numbers, return_indices=True)
            boxes = _boxes(view, images, record, rows)
            found[name] += [
                _overlap(objects[number], windows)
                for number, windows in zip(of_batch, boxes, strict=True)
                if bool(objects[number].any())
            ]
    for name, parts in found.items():
        if not parts:
            raise ValueError(
                f"none of the {len(records[name].indices)} images shows an object; look whether "
                "its masks are empty"
            )
    return {
        name: Overlap(*(np.array(column) for column in zip(*parts, strict=True)))
        for name, parts in found.items()
    }


def _boxes(
    view: ViewConfig, images: ImageSet, record: Record, rows: npt.NDArray[np.int64]
) -> list[list[list[int]]]:
    """The windows at some images of a record, in pixels; what is not looked at has an empty one."""
    steps = record.locations.shape[1]
    sizes = images.sizes(record.indices[rows]).repeat_interleave(steps, dim=0)
    locations = torch.from_numpy(record.locations[rows]).flatten(0, 1)
    scales = torch.from_numpy(record.scales[rows]).flatten()
    boxes = view.window_boxes(Look.at(locations.nan_to_num(0), scales.nan_to_num(1)), sizes)
    boxes[scales.isnan()] = 0
    return boxes.view(len(rows), steps, 4).tolist()


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
