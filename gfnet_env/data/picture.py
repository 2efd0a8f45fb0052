"""One picture file, decoded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

# Given the height and the width of a picture, what part of it to take: (top, left, bottom, right).
Crop = Callable[[int, int], npt.NDArray[np.int64]]


def load_picture(
    path: Path, image_size: int | None = None, crop: Crop | None = None, share: float = 1
) -> npt.NDArray[np.uint8]:
    """Decode one picture file to RGB, (H, W, 3) uint8.

    Args:
        path: The file; greyscale, palette and transparent pictures are converted.
        image_size: Side of the square it is resized and centre-cropped to; None leaves it whole.
        crop: What part of it becomes that square, in place of the centre.
        share: Of the side of a larger square, of which that square is the middle; 1 is all of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or no picture, or its levels are floating-point numbers;
            ``image_size`` is below 1 or ``share`` not in (0, 1].
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, not {image_size}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], not {share}")
    side = image_size and int(image_size / share)
    if not path.is_file():
        raise FileNotFoundError(f"there is no picture {path}")
    try:
        with Image.open(path) as file:
            if side is not None and crop is None:
                # Lets a JPEG be decoded at a fraction of its size, never below what is asked for.
                file.draft("RGB", (side, side))
            # Turned and converted only where it has to be, since each copies the picture.
            ImageOps.exif_transpose(file, in_place=True)
            if file.mode == "F":
                raise ValueError(
                    f"{path} has floating-point levels, of which nothing says what is black and "
                    "what is white; save it with 8 or 16 bits"
                )
            picture = _eight_bit(file)
            picture = picture if picture.mode == "RGB" else picture.convert("RGB")
            if side is not None:
                picture = _square(picture, side, crop)
            return _middle(np.array(picture), image_size)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"cannot decode {path} ({error}); the file is damaged or no picture: "
            "replace it, or move it out of the folder"
        ) from error


def _square(picture: Image.Image, side: int, crop: Crop | None) -> Image.Image:
    if crop is None:
        return ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    top, left, bottom, right = crop(picture.height, picture.width).tolist()
    part = picture.crop((left, top, right, bottom))
    return part.resize((side, side), Image.Resampling.BICUBIC)


def _middle(picture: npt.NDArray[np.uint8], side: int | None) -> npt.NDArray[np.uint8]:
    height, width, _ = picture.shape
    if side is None or (height, width) == (side, side):
        return picture
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side].copy()


def _eight_bit(picture: Image.Image) -> Image.Image:
    """``picture`` with its 16-bit grey levels, if it has such, brought to 8 bits."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).clip(0, 65535).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
