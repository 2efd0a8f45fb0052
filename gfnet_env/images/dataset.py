"""Anybody's map-style data set as an image set."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, Numbers
from gfnet_env.images.picture import as_array, in_eight_bits
from gfnet_env.images.pictures import PictureImages


class DatasetImages(PictureImages):
    """A map-style ``torch.utils.data.Dataset`` of (picture, label).

    Pictures keep their own sizes. A picture is a PIL picture of any mode, or an array or tensor of
    uint8: (H, W), (H, W, C) or (C, H, W), with C of 1 or 3. An index must always give the same one.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``. Its ``targets`` or ``labels`` are the labels;
            where it has neither, all of its items are read once. Its ``classes`` are their names.
        workers: Threads that read at the same time; with 0 the thread that asks reads.
        memory_limit: Bytes that pictures may take.

    Raises:
        ValueError: It is no such data set; or, when asked for a picture, it is no such picture.
    """

    def __init__(
        self, dataset: Any, *, workers: int = 0, memory_limit: int = DEFAULT_MEMORY_LIMIT
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ValueError(
                f"{type(dataset).__name__} is neither an image set nor a map-style data set, which "
                "has __len__ and __getitem__"
            )
        super().__init__(workers=workers, memory_limit=memory_limit)
        self._dataset = dataset
        # Zeros until a picture has been read.
        self._known_sizes = np.zeros((len(dataset), 2), dtype=np.int64)
        names = getattr(dataset, "classes", None)
        self.class_names = None if names is None else tuple(map(str, names))
        self.labels = self._read_labels()

    def _read_labels(self) -> Tensor:
        labels = getattr(self._dataset, "targets", getattr(self._dataset, "labels", None))
        if labels is None:
            labels = [self._item(index)[1] for index in range(len(self._dataset))]
        numbers = torch.as_tensor(np.asarray(labels))
        if numbers.is_floating_point() or numbers.shape != (len(self._dataset),):
            raise ValueError(
                f"labels of {type(self._dataset).__name__} must be {len(self._dataset)} integers, "
                f"not {tuple(numbers.shape)} {numbers.dtype}"
            )
        return numbers.long()

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self._dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"item {index} of {type(self._dataset).__name__} must be (picture, label), not "
                f"{type(item).__name__}"
            )
        return item[0], item[1]

    def _sizes(self, indices: Numbers) -> Tensor:
        unknown = np.unique(indices[self._known_sizes[indices, 0] == 0])
        self._threads.map(lambda index: self._picture(index, ()), unknown.tolist())
        return torch.from_numpy(self._known_sizes[indices])

    def _read(self, indices: Numbers) -> list[Tensor]:
        pictures = []
        for index in indices.tolist():
            picture = self._item(index)[0]
            name = f"picture {index} of {type(self._dataset).__name__}"
            if isinstance(picture, Image.Image):
                picture = as_array(in_eight_bits(picture, name))
            pictures.append(channels_first(picture, name))
            self._known_sizes[index] = pictures[-1].shape[1:]
        return pictures


def channels_first(picture: npt.ArrayLike | Tensor, name: str) -> Tensor:
    """A picture as (C, H, W) uint8 with C of 1 or 3.

    Args:
        picture: (H, W), (H, W, C) or (C, H, W).
        name: What messages call it.

    Raises:
        ValueError: It has another shape or type.
    """
    pixels = torch.as_tensor(picture).cpu()
    shape = tuple(pixels.shape)
    if pixels.dtype == torch.uint8 and pixels.numel():
        if pixels.ndim == 2:
            return pixels[None]
        if pixels.ndim == 3 and shape[2] in (1, 3):
            return pixels.permute(2, 0, 1)
        if pixels.ndim == 3 and shape[0] in (1, 3):
            return pixels
    raise ValueError(
        f"{name} must be a PIL picture or uint8 of (H, W), (H, W, C) or (C, H, W) with 1 or 3 "
        f"channels, not {shape} {pixels.dtype}"
    )
