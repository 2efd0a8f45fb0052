"""Images that are already in memory."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.images.base import ImageSet, Numbers, cut
from gfnet_env.looks import ViewConfig


class ArrayImages(ImageSet):
    """Images that are already in memory.

    Args:
        pixels: (N, 3, H, W) uint8, an array or a tensor on any device; shared, not copied, unless
            read-only. Views are made on its device.
        labels: (N,) integers, at least 0; None where they are not known, which are then all 0.
        class_names: One name per class, if the classes have names.
        boxes: (N, 4) as (top, left, bottom, right) in pixels, if the objects' places are known.
        normalised: Whether pixels are floats instead, normalised as the encoders expect.

    Raises:
        ValueError: A shape, a dtype or a label is wrong.
    """

    def __init__(
        self,
        pixels: npt.ArrayLike | Tensor,
        labels: npt.ArrayLike | Tensor | None = None,
        class_names: Sequence[str] | None = None,
        boxes: npt.ArrayLike | Tensor | None = None,
        *,
        normalised: bool = False,
    ) -> None:
        if isinstance(pixels, np.ndarray) and not pixels.flags.writeable:
            # Torch cannot share memory that it must not write to.
            pixels = pixels.copy()
        self._pixels = torch.as_tensor(pixels)
        self.normalised = normalised
        check_pixels(self._pixels, normalised)
        self.fixed_size = (self._pixels.shape[2], self._pixels.shape[3])
        if labels is None:
            labels = torch.zeros(len(self._pixels), dtype=torch.int64)
        labels = torch.as_tensor(labels)
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be integers, not {labels.dtype}")
        if labels.shape != (len(self._pixels),):
            raise ValueError(
                f"labels must be ({len(self._pixels)},), one per image, not {tuple(labels.shape)}"
            )
        # Some types of integers have no comparison.
        self.labels = labels = labels.long()
        if len(labels) and labels.min() < 0:
            raise ValueError(f"labels must be at least 0; one is {int(labels.min())}")
        if class_names is not None and len(labels) and labels.max() >= len(class_names):
            raise ValueError(f"label {int(labels.max())} has no name: {len(class_names)} are given")
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        if boxes is not None:
            self.boxes = torch.as_tensor(boxes, dtype=torch.float32)
            if self.boxes.shape != (len(labels), 4):
                raise ValueError(f"boxes must be ({len(labels)}, 4), not {tuple(self.boxes.shape)}")

    def _regions(
        self, indices: Numbers, boxes: Tensor, shape: tuple[int, int], view: ViewConfig
    ) -> Tensor:
        rows = torch.from_numpy(indices).to(self._pixels.device)
        return cut(self._pixels, rows, boxes, shape, view)


def check_pixels(pixels: Tensor, normalised: bool = False) -> None:
    """Raises ``ValueError`` unless pixels are (B, 3, H, W) uint8, or normalised floats."""
    if normalised and not pixels.is_floating_point():
        raise ValueError(f"normalised images must be floating point, not {pixels.dtype}")
    if not normalised and pixels.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 in 0..255, not {pixels.dtype}")
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), not {tuple(pixels.shape)}")
