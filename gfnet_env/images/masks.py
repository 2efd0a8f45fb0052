"""Masks of the objects, from boxes or from mask files that belong to a folder of images."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gfnet_env.images.base import ImageSet, Numbers
from gfnet_env.images.folder import FolderImages
from gfnet_env.images.picture import bring, opened
from gfnet_env.images.threads import Threads

# Maps the indices of some images, (B,), to their objects' pixels, (H, W) bool per image.
Masks = Callable[[Numbers], list[Tensor]]

_DECODERS = 4


def object_masks(images: ImageSet, folder: Path | None = None, split: str = "test") -> Masks | None:
    """The objects of an image set; None if there are neither mask files nor boxes.

    Args:
        images: The set.
        folder: Mask files of a folder of images; None takes the boxes of the set. The mask of a
            picture ``…/CLASS/NAME.*`` is ``FOLDER/SPLIT/CLASS/NAME.png``, or
            ``FOLDER/CLASS/NAME.png`` if there is no ``FOLDER/SPLIT``. A mask has the size of its
            picture and is zero outside the object. Pictures of a class without a folder show none.
        split: The split of the set.

    Raises:
        FileNotFoundError: A mask is missing.
        ValueError: The images are not picture files; or, later, a mask is damaged or differs in
            size from its picture.
    """
    if folder is None:
        return None if images.boxes is None else lambda indices: _box_masks(images, indices)
    if not isinstance(images, FolderImages):
        raise ValueError(
            f"masks go with picture files, and {type(images).__name__} has none; give the "
            "images as folder:PATH, or leave the masks out"
        )
    below = folder / split if (folder / split).is_dir() else folder
    masks = [below / file.parent.name / f"{file.stem}.png" for file in images.files]
    named = {parent for parent in {mask.parent for mask in masks} if parent.is_dir()}
    missing = [mask for mask in masks if not mask.is_file() and (mask.parent in named or not named)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(masks)} pictures have no mask: {missing[0]} for one "
            "is missing; put a mask there for every picture, or leave the masks out"
        )
    threads = Threads(_DECODERS)

    def read(index: int) -> Tensor:
        size = images.originals.sizes(index)[0].tolist()
        if masks[index].parent not in named:
            marked = np.zeros(size, dtype=bool)
        else:
            marked = _read_mask(masks[index], images.files[index], size)
        # With the pictures' filter; a pixel belongs to the object if at least half of it does.
        mask = bring(Image.fromarray(marked.astype(np.uint8) * 255), *images.fitting)
        return torch.from_numpy(np.array(mask) >= 128)

    return lambda indices: threads.map(read, indices.tolist())


def box_mask(box: Tensor, size: tuple[int, ...]) -> Tensor:
    """The pixels, (H, W) bool, whose centres lie in a box (top, left, bottom, right)."""
    along = []
    for axis, length in enumerate(size):
        centres = torch.arange(length, device=box.device) + 0.5
        along.append((centres >= box[axis]) & (centres < box[axis + 2]))
    return along[0][:, None] & along[1]


def _box_masks(images: ImageSet, indices: Numbers) -> list[Tensor]:
    assert images.boxes is not None
    sizes = images.sizes(indices).tolist()
    chosen = images.boxes[torch.from_numpy(indices)]
    return [box_mask(box, tuple(size)) for box, size in zip(chosen, sizes, strict=True)]


def _read_mask(path: Path, picture: Path, size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask file that are not zero, (H, W) bool, for a picture of a size."""
    with opened(path) as file:
        # Opacity is ignored; in a palette picture, the indices count, not the colours.
        values = np.asarray(file.convert("RGB") if file.mode in ("RGBA", "LA") else file)
    marked = values != 0 if values.ndim == 2 else (values != 0).any(axis=2)
    height, width = size
    if marked.shape != (height, width):
        raise ValueError(
            f"the mask {path} is {marked.shape[0]}×{marked.shape[1]}, its picture {picture} "
            f"{height}×{width}; a mask must be as large as its picture"
        )
    return marked
