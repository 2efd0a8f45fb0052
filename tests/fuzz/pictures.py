"""Pictures and folders of them."""

import io
import os
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from gfnet_env.images import SPLITS, FolderImages, load_images, load_picture
from gfnet_env.images.picture import picture_size
from tests.fuzz.core import Input, target
from tests.fuzz.values import TEXT, damaged

_SIDES = ((24, 40), (33, 16), (1, 1), (7, 64))
# Suffix, and the modes and options that are saved, by Pillow's format.
_FORMATS: dict[str, tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "JPEG": (".jpg", ("RGB", "L", "CMYK"), ({}, {"progressive": True}, {"subsampling": 0})),
    "PNG": (".png", ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"), ({}, {"optimize": True})),
    "BMP": (".bmp", ("RGB", "L", "P", "1"), ({},)),
    "WEBP": (".webp", ("RGB", "RGBA"), ({}, {"lossless": True})),
    "TIFF": (
        ".tif",
        ("RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "I", "F"),
        (
            {},
            {"compression": "tiff_lzw"},
            {"compression": "tiff_adobe_deflate"},
            {"compression": "packbits"},
        ),
    ),
    "GIF": (".gif", ("P", "L", "1"), ({}, {"interlace": False})),
    "PPM": (".ppm", ("RGB", "L", "1"), ({},)),
    "PCX": (".pcx", ("RGB", "L", "P", "1"), ({},)),
    "TGA": (".tga", ("RGB", "RGBA", "L", "P"), ({}, {"compression": "tga_rle"})),
    "SGI": (".sgi", ("RGB", "L", "RGBA"), ({},)),
    "JPEG2000": (".jp2", ("RGB", "L", "RGBA"), ({},)),
    "AVIF": (".avif", ("RGB", "RGBA"), ({"speed": 10},)),
    "QOI": (".qoi", ("RGB", "RGBA"), ({},)),
}
_EXIF_FORMATS = ("JPEG", "PNG", "WEBP")


@cache
def _seeds() -> list[tuple[str, bytes]]:
    """Intact pictures of every format that this machine's Pillow writes: suffix, content."""
    Image.init()
    rng, seeds = np.random.default_rng(0), []
    for name, (suffix, modes, variants) in _FORMATS.items():
        if name not in Image.SAVE:
            continue
        for number, (mode, options) in enumerate((m, o) for m in modes for o in variants):
            height, width = _SIDES[number % len(_SIDES)]
            # Smooth, so that a lossy format keeps it small.
            small = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
            picture = Image.fromarray(small).resize((width, height))
            picture = picture.convert("L") if mode in ("I;16", "I", "F") else picture
            seeds.append((suffix, _saved(picture.convert(mode), name, options)))
    return seeds


def _saved(picture: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


@target("pictures", share=30)
def _pictures(draw: Random, folder: Path) -> Input:
    """A damaged picture, under the suffix of any format."""
    suffix, content = draw.choice(_seeds())
    times = draw.choice((0, 1, 1, 2, 4, 8))
    if draw.random() < 0.05:
        other = draw.choice(_seeds())[1]
        content = content[: draw.randrange(len(content))] + other[draw.randrange(len(other)) :]
    if draw.random() < 0.1:
        suffix = draw.choice(_seeds())[0]
    path = folder / f"picture{suffix}"
    path.write_bytes(damaged(draw, content, times))
    use = draw.choice((_use_as_set, _use_as_set, _use_as_squares, _use_alone))
    side = draw.choice((1, 8, 20, 50))
    fit = draw.choice(("crop", "stretch"))
    return Input(path, lambda: use(path, side, fit), [path.name])


def _use_as_set(path: Path, side: int, _fit: str) -> None:
    images = FolderImages([path], [0], ["one"], workers=0)
    height, width = images.sizes([0])[0].tolist()
    assert images.picture(0).shape == (3, height, width)
    if min(height, width) >= side:
        assert images.overview([0], side).shape == (1, 3, side, side)
    assert np.array_equal(images.picture(0).permute(1, 2, 0).numpy(), load_picture(path))


def _use_as_squares(path: Path, side: int, fit: Any) -> None:
    images = FolderImages([path], [0], ["one"], image_size=side, fit=fit, crop=0.9, workers=0)
    assert images[[0]].shape == (1, 3, side, side)


def _use_alone(path: Path, _side: int, _fit: str) -> None:
    pixels = load_picture(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*picture_size(path), 3)


@cache
def _plain() -> dict[str, tuple[bytes, list[bytes]]]:
    """A picture of each format that holds Exif data, and its pixels, turned in every way."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (9, 14, 3), dtype=np.uint8))
    plain = {}
    for name in _EXIF_FORMATS:
        content = _saved(picture, name, {"lossless": True} if name == "WEBP" else {})
        with Image.open(io.BytesIO(content)) as read:
            ways = [read, *(read.transpose(way) for way in Image.Transpose)]
            plain[name] = content, [way.tobytes() for way in ways]
    return plain


@target("Exif data", share=10)
def _exif(draw: Random, folder: Path) -> Input:
    """Damaged Exif data of an intact picture, which must be read all the same."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = draw.choice((*range(10), 255, 65535))
    exif[ExifTags.Base.Make] = "x" * draw.randrange(9)
    exif[ExifTags.Base.XResolution] = draw.random()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = draw.random()
    data = damaged(draw, exif.tobytes(), draw.choice((0, 1, 2, 4, 8)))
    name = draw.choice(_EXIF_FORMATS)
    content, ways = _plain()[name]
    path = folder / f"picture{_FORMATS[name][0]}"
    if name == "JPEG":
        # Saved again, its pixels would be others.
        content = content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data + content[2:]
    else:
        with Image.open(io.BytesIO(content)) as picture:
            content = _saved(picture, name, {"exif": data, "lossless": True})
    path.write_bytes(content)

    def use() -> None:
        pixels = load_picture(path)
        assert pixels.shape == (*picture_size(path), 3)
        assert pixels.tobytes() in ways

    return Input(data, use, errors=())


@target("folders", share=10)
def _folders(draw: Random, folder: Path) -> Input:
    """A tree that is no tree of classes, or hardly one."""
    root = folder / draw.choice(("root", "ro,ot", "a=b", "r\noot", "[red]"))
    root.mkdir()
    if draw.random() < 0.6:
        _plant(draw, root)
    _grow(draw, root, draw.choice((1, 2, 3)))
    split, fit = draw.choice(SPLITS), draw.choice(("whole", "crop", "stretch"))
    seed = draw.choice((0, 1))

    def use() -> None:
        images = load_images(f"folder:{root},fit={fit}", split, image_size=8, workers=0, seed=seed)
        assert isinstance(images, FolderImages)
        assert images.class_names is not None
        assert len(images) == len(images.labels) > 0
        assert 0 <= int(images.labels.min()) <= int(images.labels.max()) < len(images.class_names)
        assert not any(file.name.startswith(".") for file in images.files)
        assert len(images.digest()) == 64
        assert images.picture(len(images) - 1).shape[0] == 3

    return Input([str(path) for path in sorted(root.rglob("*"))], use, [str(root)])


def _plant(draw: Random, root: Path) -> None:
    """Make a tree as it should be."""
    for parent in draw.choice(([root], [root / split for split in SPLITS])):
        for name in ("bus", "car"):
            (parent / name).mkdir(parents=True)
            for number in range(3):
                suffix, content = draw.choice(_seeds())
                (parent / name / f"{number}{suffix}").write_bytes(content)


def _grow(draw: Random, folder: Path, depth: int) -> None:
    """Fill a folder."""
    names = (*SPLITS, "car", "bus", "Bus", ".hidden", "a.png", "x.jpg", "é", "\udcff", *TEXT[:5])
    usable = [name for name in names if name.strip() and not {*name} & {*"\0/"}]
    inside = [path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()]
    for _ in range(draw.choice((0, 1, 2, 3, 4))):
        path = draw.choice((folder, *sorted(inside))) / draw.choice(usable)
        if not os.path.lexists(path):
            draw.choice(_ENTRIES)(draw, path, depth)


def _class(draw: Random, path: Path, depth: int) -> None:
    path.mkdir()
    for number in range(draw.choice((0, 1, 3, 3, 4, 9))):
        suffix, content = draw.choice(_seeds())
        name = draw.choice((f"{number}{suffix}", f"{number}{suffix.upper()}", f".{number}{suffix}"))
        (path / name).write_bytes(content)
    if depth and draw.random() < 0.3:
        _grow(draw, path, 0)


def _tree(draw: Random, path: Path, depth: int) -> None:
    path.mkdir()
    if depth:
        _grow(draw, path, depth - 1)


def _file(draw: Random, path: Path, depth: int) -> None:
    path.write_bytes(draw.choice((b"", b"no picture", draw.choice(_seeds())[1])))


def _link(draw: Random, path: Path, depth: int) -> None:
    path.symlink_to(draw.choice((".", "..", "nowhere", path.name, "car", "train", "a.png")))


def _pipe(draw: Random, path: Path, depth: int) -> None:
    os.mkfifo(path)


_ENTRIES: tuple[Callable[[Random, Path, int], None], ...] = (
    *(_class, _class, _class, _class, _tree, _tree, _file, _link, _pipe),
)
