"""Use any map-style data set as an image set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gfnet_env.arrays import as_array
from gfnet_env.images.array import check_labels, check_names
from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, ImageSet, Numbers
from gfnet_env.images.decoded import Decoded
from gfnet_env.images.picture import in_eight_bits
from gfnet_env.images.pictures import PictureImages


class DatasetImages(PictureImages):
    """A map-style ``torch.utils.data.Dataset`` of (picture, label).

    Pictures keep their own sizes. A picture is a PIL picture of any mode, or an array or tensor of
    uint8: (H, W), (H, W, C) or (C, H, W), with C of 1 or 3. An index must always give the same
    picture.

    Args:
        dataset: The data set, which has ``__len__`` and ``__getitem__``. Its ``targets`` or
            ``labels`` are the labels; without either, all items are read once. Its ``classes`` are
            the class names.
        workers: See ``PictureImages``.
        memory_limit: See ``PictureImages``.

    Raises:
        ValueError: The object is not such a data set; or, when a picture is read, an item is not
            such a picture.
    """

    def __init__(
        self, dataset: Any, *, workers: int = 0, memory_limit: int = DEFAULT_MEMORY_LIMIT
    ) -> None:
        self._name = type(dataset).__name__
        is_map_style = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if not is_map_style or isinstance(dataset, Mapping | np.ndarray | Tensor):
            raise ValueError(
                f"{self._name} is neither an image set nor a map-style data set, which has __len__ "
                "and __getitem__"
            )
        super().__init__(workers=workers, memory_limit=memory_limit)
        self._dataset = dataset
        labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
        if labels is None:
            labels = [self._item(index)[1] for index in range(len(dataset))]
        self.labels = check_labels(labels, len(dataset))
        names = getattr(dataset, "classes", None)
        self.class_names = check_names(f"the classes of {self._name}", names, self.labels)

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self._dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"item {index} of {self._name} must be (picture, label), not {type(item).__name__}"
            )
        return item[0], item[1]

    def _read(self, indices: Numbers) -> list[Tensor | Decoded]:
        return [self._one(index) for index in indices.tolist()]

    def _one(self, index: int) -> Tensor | Decoded:
        picture, name = self._item(index)[0], f"picture {index} of {self._name}"
        if isinstance(picture, Image.Image):
            return Decoded(in_eight_bits(picture, name))
        return _channels_first(picture, name)


def as_image_set(images: object) -> ImageSet:
    """An image set, or a map-style data set as one.

    Raises:
        ValueError: It is something else; an array has no labels.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, np.ndarray | Tensor | str):
        raise ValueError(
            f"an image set is needed, with labels, not a {type(images).__name__}: make one with "
            "ArrayImages(pixels, labels) or load_images(spec, split)"
        )
    return DatasetImages(images)


def _channels_first(picture: npt.ArrayLike | Tensor, name: str) -> Tensor:
    """A picture (H, W), (H, W, C) or (C, H, W) as (C, H, W) uint8; ``name`` is for messages."""
    pixels = torch.as_tensor(as_array(picture, name))
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
