"""Images that are already in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.arrays import as_array
from gfnet_env.images.base import ImageSet, Numbers, check_finite, cut
from gfnet_env.images.resize import Shape
from gfnet_env.looks import ViewConfig
from gfnet_env.settings import MOST_CLASSES, checked


class ArrayImages(ImageSet):
    """Images that are already in memory.

    Args:
        pixels: (N, 3, H, W) uint8, an array or a tensor on any device; views are made on that
            device. They are shared, not copied, unless an array is read-only or reversed.
        labels: (N,) integers, at least 0; all 0 by default.
        class_names: One name per class, if the classes have names.
        boxes: Boxes of the objects, (N, 4) as (top, left, bottom, right) in pixels, if known.
        normalised: Whether pixels are floats instead, normalised as the encoders expect.

    Raises:
        ValueError: A shape, a dtype or a label is wrong, or normalised pixels are not finite.
    """

    def __init__(
        self,
        pixels: npt.NDArray[Any] | Tensor,
        labels: npt.ArrayLike | Tensor | None = None,
        class_names: Sequence[str] | None = None,
        boxes: npt.ArrayLike | Tensor | None = None,
        *,
        normalised: bool = False,
    ) -> None:
        if not isinstance(pixels, np.ndarray | Tensor):
            raise ValueError(
                "images must be an array or a tensor, (B, 3, H, W) uint8, not a "
                f"{type(pixels).__name__}; DatasetImages takes pictures of other kinds; networks "
                "take a list of paths too"
            )
        if isinstance(pixels, np.ndarray):
            pixels = as_array(pixels, "images")
        self._pixels = torch.as_tensor(pixels)
        if self._pixels.layout != torch.strided or self._pixels.is_meta:
            raise ValueError(
                f"images must be a dense tensor in memory, not {self._pixels.layout} on "
                f"{self._pixels.device}"
            )
        _check_pixels(self._pixels, checked("normalised", normalised, bool))
        count, _, height, width = self._pixels.shape
        self.normalised, self.fixed_size = normalised, (height, width)
        self.labels = check_labels(np.zeros(count, np.int64) if labels is None else labels, count)
        self.class_names = check_names("class_names", class_names, self.labels)
        if boxes is not None:
            self.boxes = torch.as_tensor(as_array(boxes, "boxes"), dtype=torch.float32)
            if self.boxes.shape != (count, 4):
                raise ValueError(f"boxes must be ({count}, 4), not {tuple(self.boxes.shape)}")
            within = self.boxes.isfinite().all(1) & (self.boxes[:, :2] <= self.boxes[:, 2:]).all(1)
            if not bool(within.all()):
                raise ValueError(
                    "boxes must be (top, left, bottom, right) in pixels; that of image "
                    f"{int((~within).nonzero()[0])} is {self.boxes[~within][0].tolist()}"
                )

    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        rows = torch.from_numpy(indices).to(self._pixels.device)
        return cut(self._pixels, rows, boxes, shape, view)


def check_labels(labels: npt.ArrayLike | Tensor, count: int) -> Tensor:
    """Labels as (count,) int64; raises ``ValueError`` unless they are integers of at least 0."""
    tensor = torch.as_tensor(as_array(labels, "labels"))
    if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.shape != (count,):
        raise ValueError(
            f"labels must be integers, ({count},), one per image, not {tuple(tensor.shape)} "
            f"{tensor.dtype}"
        )
    # Some integer types do not support comparison.
    tensor = tensor.long()
    wrong = tensor[(tensor < 0) | (tensor >= MOST_CLASSES)]
    if len(wrong):
        raise ValueError(f"labels must be in [0, {MOST_CLASSES:,}); one is {int(wrong[0])}")
    return tensor


def check_names(name: str, names: Any, labels: Tensor) -> tuple[str, ...] | None:
    """The names of classes; raises ``ValueError`` unless there is one for each label.

    Args:
        name: What they are, for messages.
        names: A sequence or an array of text or numbers; None if the classes have no names.
        labels: (N,) int64.
    """
    given = names.tolist() if isinstance(names, np.ndarray) else names
    found = checked(name, given, tuple[str | int, ...] | None)
    highest = int(labels.max()) if len(labels) else -1
    if found is not None and highest >= len(found):
        raise ValueError(f"label {highest} has no name: {name} has {len(found)}")
    return None if found is None else tuple(map(str, found))


def _check_pixels(pixels: Tensor, normalised: bool) -> None:
    if normalised and not pixels.is_floating_point():
        raise ValueError(f"normalised images must be floating point, not {pixels.dtype}")
    if not normalised and pixels.dtype != torch.uint8:
        advice = (
            "; (255 * x).round() makes levels of floats in [0, 1], to(torch.uint8) converts them, "
            "and normalised=True takes floats that are normalised already"
        ) * pixels.is_floating_point()
        raise ValueError(f"images must be uint8 in 0..255, not {pixels.dtype}{advice}")
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        advice = ""
        if pixels.ndim == 3:
            advice = "; pixels[None] makes a batch of one"
        elif pixels.ndim == 4 and pixels.shape[3] == 3:
            advice = "; permute(0, 3, 1, 2) puts the channels where they belong"
        elif pixels.ndim == 4 and pixels.shape[1] == 1:
            advice = "; expand(-1, 3, -1, -1) repeats the channel of grey pictures"
        raise ValueError(f"images must be (B, 3, H, W), not {tuple(pixels.shape)}{advice}")
    if normalised:
        check_finite(pixels, np.arange(len(pixels)))
