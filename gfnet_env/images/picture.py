"""Decode one picture file; this module imports no other module of the library."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

# How a picture is brought to a shape, see ``bring``.
Fit = Literal["whole", "crop", "stretch"]

_BICUBIC = Image.Resampling.BICUBIC
# Orientations from this on swap height and width (Exif 2.3, tag 274).
FIRST_TURNED = 5
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats that Pillow decodes by itself. It starts other programs for some of the others.
_FORMATS = (
    *("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF"),
    "WEBP",
)
SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS
)
# Largest side of a square to bring a picture to, in pixels: one takes 2.7 GB.
_LARGEST = 30_000
# Number of rows to copy at a time.
_BAND = 16

Array = npt.NDArray[np.uint8]
# The file of a picture, or what it holds.
Source = Path | bytes
# Chunks that may hold the orientation of a PNG file.
_EXIF_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


Alone = Callable[[int], AbstractContextManager[object]]


def freely(_pixels: int) -> AbstractContextManager[object]:
    """Decode at once."""
    return nullcontext()


class _UnsuitableError(ValueError):
    """A picture is intact but cannot be used."""


def load_picture(
    source: Source,
    image_size: int | None = None,
    fit: Fit = "crop",
    crop: float = 1,
    alone: Alone = freely,
) -> Array:
    """``decode`` to RGB, (H, W, 3) uint8."""
    return as_array(decode(source, image_size, fit, crop, alone).convert("RGB"))


def decode(
    source: Source,
    image_size: int | None = None,
    fit: Fit = "crop",
    crop: float = 1,
    alone: Alone = freely,
) -> Image.Image:
    """Decode one picture file of any mode to RGB, or to ``L`` if it is grey; then ``bring`` it.

    Args:
        source: The file, or its bytes.
        image_size: See ``bring``.
        fit: See ``bring``.
        crop: See ``bring``.
        alone: Called with the number of pixels, makes a context to decode in.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or not a picture, or has levels of 32 bits; or
            ``image_size`` is out of range, ``fit`` is unknown, or ``crop`` is not in (0, 1].
    """
    check_fitting(image_size, fit, crop)
    with opened(source) as file:
        if image_size is not None and fit == "crop":
            # Decodes a JPEG at a reduced size, but no smaller than needed.
            side = int(image_size / crop)
            file.draft("RGB", (side, side))
        with alone(file.width * file.height):
            # Decoded while the file is open; Pillow turns TIFF files by itself.
            file.load()
            turn = _TURNS.get(_orientation(file))
            # Both copy the picture only if necessary.
            picture = in_eight_bits(file if turn is None else file.transpose(turn), _named(source))
            return bring(picture, image_size, fit, crop)


def as_array(picture: Image.Image) -> Array:
    """The pixels of a picture, (H, W, 3) or (H, W)."""
    shape = (picture.height, picture.width, len(picture.getbands()))
    pixels = np.empty(shape[:2] if shape[2] == 1 else shape, dtype=np.uint8)
    top = 0
    for band in bands(picture, (0, 0, *picture.size)):
        pixels[top : top + len(band)] = band
        top += len(band)
    return pixels


def bands(picture: Image.Image, box: tuple[int, int, int, int]) -> Iterator[Array]:
    """Yield the rows of a part (left, top, right, bottom), several at a time, (R, w, 3) or (R, w).

    This saves memory: Pillow makes a second copy of whatever ``np.asarray`` reads.
    """
    left, first, right, last = box
    for top in range(first, last, _BAND):
        # A writable array, unlike the result of ``asarray``.
        yield np.array(picture.crop((left, top, right, min(last, top + _BAND))))


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture file, from its header, after the rotation that ``decode`` applies.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a picture.
    """
    with opened(path) as file:
        width, height = file.size
        if file.format == "TIFF" or (file.format == "PNG" and not _has_exif(path)):
            # Pillow has already rotated the size of a TIFF file. To find the orientation of a PNG
            # file, it would decode the whole file.
            return height, width
        return (width, height) if _orientation(file) >= FIRST_TURNED else (height, width)


def bring(picture: Image.Image, image_size: int | None, fit: Fit, crop: float = 1) -> Image.Image:
    """Bring a picture of any size to a square.

    Args:
        picture: The picture.
        image_size: Side of the square, in pixels; None leaves the picture as it is.
        fit: ``crop`` resizes the shorter side and takes the centre, ``stretch`` resizes both sides,
            ``whole`` leaves the picture as it is.
        crop: Share of a larger square's side that the result, its middle, covers.
    """
    if image_size is None or fit == "whole":
        return picture
    side = int(image_size / crop)
    resize = Image.Image.resize if fit == "stretch" else ImageOps.fit
    square = resize(picture, (side, side), _BICUBIC)
    start = (side - image_size) // 2
    return square.crop((start, start, start + image_size, start + image_size)) if start else square


def check_fitting(image_size: int | None, fit: str, crop: float) -> None:
    """Raise ``ValueError`` unless pictures can be brought to squares in this way."""
    if fit not in get_args(Fit):
        raise ValueError(f"unknown fit {fit!r}; known: {', '.join(get_args(Fit))}")
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be in (0, 1], not {crop}")
    most = int(crop * _LARGEST)
    if image_size is not None and not 1 <= image_size <= most:
        raise ValueError(f"image_size must be 1 to {most:,} pixels, not {image_size}")


def in_eight_bits(picture: Image.Image, name: object) -> Image.Image:
    """A picture of any mode as RGB, or as ``L`` if it is grey; ``name`` is for messages.

    Raises:
        ValueError: Its levels have 32 bits.
    """
    if picture.mode in ("F", "I"):
        kind = "floating-point" if picture.mode == "F" else "32-bit"
        raise _UnsuitableError(
            f"{name} has {kind} levels, and nothing says which are black and white; save it with "
            "8 or 16 bits"
        )
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    return picture if picture.mode in ("RGB", "L") else picture.convert("RGB")


@contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """Open a picture, reading only its header.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: It is a folder.
        ValueError: The file cannot be decoded, now or later in the ``with`` block.
    """
    name = _named(source)
    if isinstance(source, Path) and source.is_dir():
        raise IsADirectoryError(f"{name} is a folder; give the pictures in it")
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"there is no picture {name}")
    try:
        held = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(held, formats=_FORMATS) as file:
            yield file
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name} is too large to decode at once ({error}); raise PIL.Image.MAX_IMAGE_PIXELS "
            f"if there is memory for it, or install gfnet-env[large] and {_tiled(source)}"
        ) from error
    except (_UnsuitableError, MemoryError):
        raise
    # Decoders of damaged files raise whatever comes up.
    except Exception as error:
        raise ValueError(
            f"cannot decode {name} ({error}); the file is damaged or not a picture: "
            "replace it, or move it out of the folder"
        ) from error


def _named(source: Source) -> str:
    """What messages call a picture."""
    return f"a picture of {len(source):,} bytes" if isinstance(source, bytes) else str(source)


def _tiled(source: Source) -> str:
    """How to make a large picture one that is read part by part."""
    path = Path("picture") if isinstance(source, bytes) else source
    return (
        'save it as a tiled pyramid, which is read part by part: python -c "import pyvips; '
        f"pyvips.Image.new_from_file('{path}', access='sequential').tiffsave("
        f"'{path.with_suffix('.tiled.tif')}', tile=True, pyramid=True, bigtiff=True, "
        "compression='deflate')\""
    )


def _orientation(file: Image.Image) -> int:
    """How to turn a picture (Exif 2.3, tag 274); 1, not at all, if its Exif data are damaged."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    # Damaged data raise whatever comes up.
    except Exception:
        return 1
    return orientation if orientation in _TURNS else 1


def _has_exif(path: Path) -> bool:
    """Whether a PNG file may hold an orientation, before its pixels or after them."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind in _EXIF_CHUNKS:
                return True
            file.seek(length + 4, 1)
    return False
