"""Read parts of pictures that do not fit in memory, from disk.

Of the library, this module imports only ``picture``.
"""

import importlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from gfnet_env.images.picture import (
    FIRST_TURNED,
    Alone,
    Array,
    Fit,
    bring,
    check_fitting,
    freely,
    load_picture,
)

# Whole slides, which OpenSlide reads.
SLIDES = frozenset({".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide"})
_TIFF = frozenset({".tif", ".tiff"})
_JPEG_2000 = frozenset({".jp2"})

# TIFF and JPEG 2000 files with fewer bytes of pixels are decoded like any other picture.
_LEAST_BYTES = 2**26
# Most bytes of pixels to read at a time.
_BAND_BYTES = 2**24
# Most files to keep open. Each keeps up to two rows of tiles that it has decoded.
_OPEN = 16
# How much finer than a view a smaller copy must be: its own filter, and rounding boxes to its
# pixels, then change the view by a few grey levels at most.
_FINER = 4

# Fields of a TIFF directory, and how to read the types of number that they may have.
_KIND, _WIDTH, _HEIGHT, _TILE_WIDTH = 254, 256, 257, 322
_NUMBERS = {3: "H", 4: "I", 16: "Q"}
# What libvips calls the levels and colours that Pillow decodes too.
_FORMATS: dict[str, npt.DTypeLike] = {"uchar": np.uint8, "ushort": np.uint16}
_COLOURS = frozenset({"b-w", "grey16", "srgb", "rgb", "rgb16", "cmyk"})
# The kind of a directory that holds a smaller copy of the picture, but no mask of it.
_REDUCED = 1
# Most directories, and fields of one, to go through; damaged ones may form a ring.
_MOST = 1000


@dataclass(frozen=True)
class _Level:
    """A copy of a picture at one resolution; ``read`` takes (left, top, width, height)."""

    width: int
    height: int
    read: Callable[[int, int, int, int], Array]


class LargePicture:
    """A picture on disk. It is thread-safe.

    Args:
        levels: Copies of the picture at several resolutions, in any order.

    Attributes:
        shape: (H, W, 3).
        dtype: uint8.
    """

    def __init__(self, levels: Sequence[_Level]) -> None:
        self._levels = sorted(levels, key=lambda level: level.width)
        full = self._levels[-1]
        self.shape = (full.height, full.width, 3)
        self.dtype = np.dtype(np.uint8)

    def bands(self, box: Sequence[int], shape: tuple[int, int]) -> Iterator[Array]:
        """Yield the rows of a part, several at a time, from the smallest copy that is fine enough.

        Args:
            box: The part as (top, left, bottom, right), in pixels of the full resolution.
            shape: (h, w) that the part will be resized to. If this is the size of the part, the
                rows are those of the full resolution.

        Yields:
            (R, w, 3) uint8, or (R, w) if the picture is grey.

        Raises:
            ValueError: The file is damaged.
        """
        top, left, bottom, right = box
        height, width = self.shape[:2]
        level = self._levels[-1]
        for each in self._levels:
            rows, columns = (bottom - top) * each.height, (right - left) * each.width
            if rows >= _FINER * shape[0] * height and columns >= _FINER * shape[1] * width:
                level = each
                break
        first, last = (round(row * level.height / height) for row in (top, bottom))
        start, end = (round(column * level.width / width) for column in (left, right))
        count = max(1, _BAND_BYTES // (3 * (end - start)))
        for row in range(first, last, count):
            yield level.read(start, row, end - start, min(count, last - row))

    def show(
        self, box: Sequence[int], shape: tuple[int, int], resample: Image.Resampling
    ) -> Image.Image:
        """A part, resized to a shape (h, w) by Pillow; see ``bands``."""
        height, width = shape
        # Columns first, as in Pillow, so that the result is the same, bit for bit.
        narrow = [
            np.asarray(Image.fromarray(band).resize((width, len(band)), resample))
            for band in self.bands(box, shape)
        ]
        return Image.fromarray(np.concatenate(narrow)).resize((width, height), resample)

    def fitted(self, image_size: int, fit: Fit, crop: float = 1) -> Array:
        """The picture brought to a square by ``crop`` or ``stretch`` as in ``bring``, (S, S, 3)."""
        check_fitting(image_size, fit, crop)
        height, width = self.shape[:2]
        box = [0, 0, height, width]
        if fit == "crop":
            extent = min(height, width)
            top, left = (height - extent) // 2, (width - extent) // 2
            box = [top, left, top + extent, left + extent]
        side = int(image_size / crop)
        square = self.show(box, (side, side), Image.Resampling.BICUBIC)
        return np.asarray(bring(square, image_size, fit, crop).convert("RGB"))


def open_large(path: Path) -> LargePicture | None:
    """Open a picture that is read from disk part by part; None for one that is decoded whole.

    Whole slides are read part by part, and so are tiled TIFF files with more than 64 MiB of pixels,
    and JPEG 2000 files if libvips was built with OpenJPEG. The latest files stay open; one that has
    changed is opened again.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The extra ``large`` is not installed.
        ValueError: The file is damaged, or has levels or channels that are not supported.
    """
    suffix = path.suffix.lower()
    if suffix not in SLIDES | _TIFF | _JPEG_2000:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"there is no picture {path}")
    state = path.stat()
    version = state.st_size, state.st_mtime_ns, state.st_ino
    if suffix in SLIDES or _is_large(path, version):
        return _opened(path, version)
    return None


def load_square(
    path: Path, image_size: int, fit: Fit, crop: float = 1, alone: Alone = freely
) -> Array:
    """``load_picture``, or ``fitted`` for a picture on disk: (S, S, 3)."""
    large = open_large(path)
    if large is None:
        return load_picture(path, image_size, fit, crop, alone)
    return large.fitted(image_size, fit, crop)


@lru_cache(4096)
def _is_large(path: Path, _version: tuple[int, ...]) -> bool:
    """Whether a file has many pixels and is a tiled TIFF file, or JPEG 2000 that libvips reads."""
    if path.suffix.lower() in _TIFF:
        first = next(_directories(path), {})
        tiled, width, height = _TILE_WIDTH in first, first.get(_WIDTH, 0), first.get(_HEIGHT, 0)
    else:
        try:
            # Unlike Image.open, this takes pictures of any size.
            with Jpeg2KImageFile(path) as file:
                width, height = file.size
        # Decoders of damaged files raise whatever comes up; Pillow will name the file.
        except Exception:
            return False
        tiled = _reads_jpeg_2000()
    return tiled and 3 * width * height > _LEAST_BYTES


@lru_cache(_OPEN)
def _opened(path: Path, _version: tuple[int, ...]) -> LargePicture:
    levels = _slide_levels if path.suffix.lower() in SLIDES else _vips_levels
    return LargePicture(levels(path))


# A forked child would move its parent's place in the files.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_opened.cache_clear)


def _directories(path: Path) -> Iterator[dict[int, int]]:
    """Yield the fields with whole numbers of each directory of a TIFF file, up to a damaged one."""
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2), "<")

        def number(kind: str) -> int:
            return int(struct.unpack(order + kind, file.read(struct.calcsize(kind)))[0])

        try:
            # BigTIFF has numbers of 8 bytes.
            large = number("H") == 43
            file.seek(8 if large else 4)
            count, place, length = ("Q", "Q", 20) if large else ("H", "I", 12)
            for _ in range(_MOST):
                file.seek(number(place))
                if file.tell() == 0:
                    return
                entries = file.read(length * min(number(count), _MOST))
                fields = {}
                for start in range(0, len(entries), length):
                    field, kind = struct.unpack_from(order + "HH", entries, start)
                    if kind in _NUMBERS:
                        value = start + (12 if large else 8)
                        (fields[field],) = struct.unpack_from(
                            order + _NUMBERS[kind], entries, value
                        )
                yield fields
        except (struct.error, OverflowError, OSError):
            return


def _reads_jpeg_2000() -> bool:
    try:
        pyvips: Any = importlib.import_module("pyvips")
    except (ImportError, OSError):
        return False
    return bool(pyvips.type_find("VipsOperation", "jp2kload"))


def _vips_levels(path: Path) -> list[_Level]:
    """The picture of a TIFF or JPEG 2000 file and its smaller copies."""
    full = _VipsPage(path)
    width, height = full.image.width, full.image.height
    orientation = _property(full.image, "orientation", 1)
    pages = [(full, width, height)]
    for number in range(_property(full.image, "n-subifds", 0)):
        page = _VipsPage(path, orientation, subifd=number)
        pages.append((page, page.image.width, page.image.height))
    if path.suffix.lower() in _TIFF:
        for number, fields in enumerate(_directories(path)):
            # Other pages are other pictures.
            if number > 0 and fields.get(_KIND) == _REDUCED:
                page = _VipsPage(path, orientation, page=number)
                pages.append((page, fields.get(_WIDTH, 0), fields.get(_HEIGHT, 0)))
    else:
        for number in range(1, _property(full.image, "n-pages", 1)):
            # Each is half as large as the one before it, rounded up.
            page = _VipsPage(path, orientation, page=number)
            pages.append((page, -(-width >> number), -(-height >> number)))
    return [
        _Level(*((rows, columns) if orientation >= FIRST_TURNED else (columns, rows)), page.read)
        for page, columns, rows in pages
        # A smaller copy has the shape of the picture, up to a pixel.
        if page is full
        or (0 < columns < width and abs(rows * width - columns * height) <= max(width, height))
    ]


class _VipsPage:
    """One image of a TIFF or JPEG 2000 file, which is opened when it is needed.

    Args:
        path: The file.
        orientation: How to turn the image (Exif 2.3, tag 274); None does what the image says.
        page: Arguments of the loader: which image.
    """

    def __init__(self, path: Path, orientation: int | None = None, **page: int) -> None:
        self._path, self._orientation, self._page = path, orientation, page

    @cached_property
    def image(self) -> Any:
        """The image, which is not turned yet."""
        pyvips = _module("pyvips", self._path)
        # Kept operations would show the old content of a file that has been replaced.
        pyvips.cache_set_max(0)
        # Unlike new_from_file, loaders take brackets in a name as part of it.
        tiff = self._path.suffix.lower() in _TIFF
        load = pyvips.Image.tiffload if tiff else pyvips.Image.jp2kload
        try:
            # Damaged tiles are warnings; they would be shown black.
            image = load(str(self._path), fail_on="warning", **self._page)
        except pyvips.Error as error:
            raise _damaged(self._path, error) from error
        if image.format not in _FORMATS or image.interpretation not in _COLOURS:
            raise ValueError(
                f"{self._path} has {image.bands} channels of {image.format} "
                f"({image.interpretation}); save it as grey or RGB with 8 or 16 bits"
            )
        if self._orientation is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.gint_type, "orientation", self._orientation)
        return image

    def read(self, left: int, top: int, width: int, height: int) -> Array:
        """A part of the turned image, (h, w, 3) or (h, w)."""
        pyvips, image = _module("pyvips", self._path), self.image
        try:
            # A region belongs to one thread, and reads in it.
            region = pyvips.Region.new(image.autorot())
            content = region.fetch(left, top, width, height)
        except pyvips.Error as error:
            _opened.cache_clear()
            raise _damaged(self._path, error) from error
        pixels = np.frombuffer(content, _FORMATS[image.format])
        pixels = pixels.reshape(height, width, image.bands)
        return _in_eight_bits(pixels, cmyk=image.interpretation == "cmyk")


def _in_eight_bits(pixels: npt.NDArray[Any], *, cmyk: bool) -> Array:
    """Pixels (h, w, C) as RGB or grey, converted as Pillow does, without their opacity."""
    if cmyk:
        levels = np.ascontiguousarray(pixels[:, :, :4])
        cyan = Image.frombytes("CMYK", (levels.shape[1], levels.shape[0]), levels.tobytes())
        return np.array(cyan.convert("RGB"))
    pixels = pixels[:, :, :3] if pixels.shape[2] > 2 else pixels[:, :, 0]
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8 if pixels.ndim == 3 else (pixels.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _slide_levels(path: Path) -> list[_Level]:
    """A whole slide at its resolutions."""
    openslide = _module("openslide", path)
    try:
        slide = openslide.OpenSlide(path)
        colour = slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        return [
            _slide_level(slide, number, f"#{colour}", path) for number in range(slide.level_count)
        ]
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error


def _slide_level(slide: Any, number: int, background: str, path: Path) -> _Level:
    openslide = _module("openslide", path)
    columns, rows = slide.level_dimensions[number]

    def read(left: int, top: int, width: int, height: int) -> Array:
        place = (
            round(left * slide.dimensions[0] / columns),
            round(top * slide.dimensions[1] / rows),
        )
        try:
            part = slide.read_region(place, number, (width, height))
        except openslide.OpenSlideError as error:
            # A slide gives nothing more after an error.
            _opened.cache_clear()
            raise _damaged(path, error) from error
        # What was not scanned is transparent.
        shown = Image.new("RGB", part.size, background)
        shown.paste(part, mask=part)
        return np.array(shown)

    return _Level(columns, rows, read)


def _property(image: Any, name: str, default: int) -> int:
    return int(image.get(name)) if image.get_typeof(name) else default


def _module(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"{path} is read part by part, which {name} does: pip install 'gfnet-env[large]'"
        ) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    message = " ".join(str(error).split())
    return ValueError(f"cannot read {path} ({message}); the file is damaged: replace it")
