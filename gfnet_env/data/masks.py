"""Where the object is, pixel by pixel: from boxes, or from mask files beside a folder of images."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from gfnet_env.data.folder import FolderImages
from gfnet_env.data.images import CentreCrops, ImageSet

# From the indices of some images, (B,), to the pixels of their objects, (B, H, W) bool.
Masks = Callable[[npt.NDArray[np.int64]], Tensor]

_DECODERS = 4
# Orientations from this on swap height and width (Exif 2.3, tag 274).
_FIRST_TURNED = 5


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
    if folder is not None and isinstance(images, CentreCrops):
        cropped, whole = images, object_masks(images.images, folder, split)
        assert whole is not None
        return lambda indices: cropped.crop(whole(indices))
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
    height, width = images[[0]].shape[2:]
    return lambda indices: box_masks(boxes[torch.from_numpy(indices)], (height, width))


def box_masks(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The pixels whose centres lie in boxes.

    Args:
        boxes: (B, 4) as (top, left, bottom, right) in pixels.
        image_size: (H, W).

    Returns:
        (B, H, W) bool.
    """
    along = []
    for axis, length in enumerate(image_size):
        centres = torch.arange(length, device=boxes.device) + 0.5
        first, last = boxes[:, axis, None], boxes[:, axis + 2, None]
        along.append((centres >= first) & (centres < last))
    return along[0][:, :, None] & along[1][:, None, :]


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
        self._pictures, self._side = images.files, images.image_size
        self._masks = [below / file.parent.name / f"{file.stem}.png" for file in images.files]
        missing = [mask for mask in self._masks if not mask.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self._masks)} pictures have no mask: {missing[0]} for one "
                "is missing; put a mask there for every picture, or leave the masks out"
            )

    def __call__(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """The objects of some images, (B, H, W) bool."""
        with ThreadPoolExecutor(_DECODERS) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._read, indices.tolist()))))

    def _read(self, index: int) -> npt.NDArray[np.bool_]:
        path, picture = self._masks[index], self._pictures[index]
        try:
            with Image.open(path) as file:
                # Opacity says nothing; of a palette the numbers count and not the colours.
                bands = file.convert("RGB") if file.mode in ("RGBA", "LA") else file
                values = np.asarray(bands)
            with Image.open(picture) as file:
                # Pictures lie on their side that load_picture turns.
                turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= _FIRST_TURNED
                size = file.size[::-1] if turned else file.size
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"cannot decode the mask {path} of {picture} ({error}); replace what is damaged"
            ) from error
        marked = values != 0 if values.ndim == 2 else (values != 0).any(axis=2)
        mask = Image.fromarray(marked.astype(np.uint8) * 255)
        if mask.size != size:
            raise ValueError(
                f"the mask {path} is {mask.height}×{mask.width}, its picture {picture} "
                f"{size[1]}×{size[0]}; a mask must be as large as its picture"
            )
        # With the filter of the pictures: what is at least half an object's pixel is one.
        square = ImageOps.fit(mask, (self._side, self._side), Image.Resampling.BICUBIC)
        return np.asarray(square) >= 128
