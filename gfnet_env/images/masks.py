"""Where the object is, pixel by pixel: from boxes, or from mask files beside a folder of images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gfnet_env.images.base import ImageSet, Numbers
from gfnet_env.images.folder import FolderImages
from gfnet_env.images.picture import bring, picture_size
from gfnet_env.images.threads import Threads

# From the indices of some images, (B,), to the pixels of their objects, (H, W) bool of each.
Masks = Callable[[Numbers], list[Tensor]]

_DECODERS = 4


def object_masks(images: ImageSet, folder: Path | None = None, split: str = "test") -> Masks | None:
    """The objects of an image set.

    Args:
        images: The set.
        folder: Holds the mask files of a folder of images, see ``FolderMasks``; None takes the
            boxes of the set.
        split: Which split the set is.

    Returns:
        None where there is no folder and the set has no boxes.

    Raises:
        FileNotFoundError: A mask is missing.
        ValueError: A folder was given for images that are no picture files.
    """
    if folder is not None:
        if not isinstance(images, FolderImages):
            raise ValueError(
                f"masks go with picture files, and {type(images).__name__} has none; give the "
                "images as folder:PATH, or leave the masks out"
            )
        return FolderMasks(images, folder, split)
    boxes = images.boxes
    if boxes is None:
        return None

    def masks(indices: Numbers) -> list[Tensor]:
        sizes = images.sizes(indices).tolist()
        chosen = boxes[torch.from_numpy(indices)]
        return [box_mask(box, tuple(size)) for box, size in zip(chosen, sizes, strict=True)]

    return masks


def box_mask(box: Tensor, size: tuple[int, ...]) -> Tensor:
    """The pixels whose centres lie in a box.

    Args:
        box: (top, left, bottom, right) in pixels.
        size: (H, W).

    Returns:
        (H, W) bool.
    """
    along = []
    for axis, length in enumerate(size):
        centres = torch.arange(length, device=box.device) + 0.5
        along.append((centres >= box[axis]) & (centres < box[axis + 2]))
    return along[0][:, None] & along[1]


class FolderMasks:
    """Mask files of a folder of images, brought to the size of its pictures as those are.

    The mask of a picture ``…/CLASS/NAME.*`` is ``FOLDER/SPLIT/CLASS/NAME.png``, or
    ``FOLDER/CLASS/NAME.png`` where ``FOLDER/SPLIT`` does not exist: as large as the picture, and
    zero where the object is not.

    Args:
        images: The pictures.
        folder: Holds the masks.
        split: Which split the pictures are.

    Raises:
        FileNotFoundError: A picture has no mask.
        ValueError: When asked for a mask that cannot be decoded or has another size than its
            picture; the message names the file.
    """

    def __init__(self, images: FolderImages, folder: Path, split: str) -> None:
        below = folder / split if (folder / split).is_dir() else folder
        self._pictures, self._fitting = images.files, images.fitting
        self._masks = [below / file.parent.name / f"{file.stem}.png" for file in images.files]
        self._threads = Threads(_DECODERS)
        missing = [mask for mask in self._masks if not mask.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self._masks)} pictures have no mask: {missing[0]} for one "
                "is missing; put a mask there for every picture, or leave the masks out"
            )

    def __call__(self, indices: Numbers) -> list[Tensor]:
        """The objects of some images, (H, W) bool of each."""
        return self._threads.map(self._read, indices.tolist())

    def _read(self, index: int) -> Tensor:
        path, picture = self._masks[index], self._pictures[index]
        height, width = picture_size(picture)
        try:
            with Image.open(path) as file:
                # Opacity says nothing; of a palette the numbers count and not the colours.
                bands = file.convert("RGB") if file.mode in ("RGBA", "LA") else file
                values = np.asarray(bands)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"cannot decode the mask {path} of {picture} ({error}); replace what is damaged"
            ) from error
        marked = values != 0 if values.ndim == 2 else (values != 0).any(axis=2)
        if marked.shape != (height, width):
            raise ValueError(
                f"the mask {path} is {marked.shape[0]}×{marked.shape[1]}, its picture {picture} "
                f"{height}×{width}; a mask must be as large as its picture"
            )
        # With the filter of the pictures: what is at least half an object's pixel is one.
        mask = bring(Image.fromarray(marked.astype(np.uint8) * 255), *self._fitting)
        return torch.from_numpy(np.array(mask) >= 128)
