"""Pictures that are read from disk part by part: made by libvips, compared with decoded ones."""

import os
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from gfnet_env.images import ArrayImages, Augmentation, augment, large, load_images, load_picture
from gfnet_env.images.decoded import OnDisk
from gfnet_env.images.folder import FolderImages
from gfnet_env.images.large import open_large
from gfnet_env.looks import Look, ViewConfig

LEAST_BYTES = large._LEAST_BYTES
# Odd, so that no copy has exactly half the size of the one before it.
HEIGHT, WIDTH = 1201, 1803
TILED = {"tile": True, "tile_width": 128, "tile_height": 128, "compression": "deflate"}
PYRAMID = {**TILED, "pyramid": True}

# For the peak of memory of a picture of this side: 30000 takes half a minute.
SIDE = int(os.environ.get("GFNET_LARGE_SIDE", "8000"))


@pytest.fixture(autouse=True)
def tiled_files_of_any_size(monkeypatch):
    """Tiled files are read part by part, however small they are."""
    monkeypatch.setattr("gfnet_env.images.large._LEAST_BYTES", 0)
    large._is_large.cache_clear()


def smooth(bands=3, kind="uchar", colours="srgb"):
    """Blurred noise, over the whole range of levels."""
    noise = np.random.default_rng(0).integers(0, 256, (13, 19, bands), dtype=np.uint8)
    picture = pyvips.Image.new_from_array(noise).resize(100).crop(0, 0, WIDTH, HEIGHT)
    picture = picture.cast("uchar")
    if bands in (2, 4) and colours != "cmyk":
        # Smaller copies weight colours by their opacity.
        picture = picture[: bands - 1].bandjoin(200)
    if kind == "ushort":
        picture = picture.cast("ushort") * 257 + pyvips.Image.xyz(WIDTH, HEIGHT)[0] % 257
    return picture.cast(kind).copy(interpretation=colours)


def write(path, picture=None, orientation=None, description=None, **options):
    picture = (smooth() if picture is None else picture).copy()
    if orientation is not None:
        picture.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    if description is not None:
        picture.set_type(pyvips.GValue.gstr_type, "image-description", description)
    picture.tiffsave(str(path), **{**PYRAMID, **options})
    return path


def opened(*files, **options):
    return FolderImages(files, [0] * len(files), ["thing"], workers=0, **options)


def decoded(path):
    return ArrayImages(load_picture(path).transpose(2, 0, 1)[None])


def agree(path, whole, levels=12):
    """Views of a file on disk are those of the decoded picture, up to some grey levels."""
    images = opened(path)
    assert isinstance(images._whole(0), OnDisk)
    assert torch.equal(images.sizes(0), whole.sizes(0))
    for size in (32, 96):
        for aspect in ("stretch", "pad"):
            view = ViewConfig(size=size, aspect=aspect)
            apart = images.overview(0, view).int() - whole.overview(0, view).int()
            assert apart.abs().max() <= levels
        for scale in (1, 1.5, 4, 6.3, 50):
            for corner in ((-1, -1), (1, 1), (0.3, -0.77)):
                look = Look.at(torch.tensor([corner]), torch.tensor([float(scale)]))
                apart = images.window(0, look, size).int() - whole.window(0, look, size).int()
                assert apart.abs().max() <= (levels if scale > 1 else 0)


@pytest.mark.parametrize(
    "options",
    [{}, {"bigtiff": True}, {"subifd": True}, {"pyramid": False}, {"tile_width": 512}],
    ids=str,
)
def test_views_of_tiled_files_are_those_of_decoded_ones(tmp_path, options):
    # Brackets are no options of libvips.
    path = write(tmp_path / "large[1].tif", **options)
    agree(path, decoded(path), 12 if options.get("pyramid", True) else 0)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_they_are_turned_as_their_camera_says(tmp_path, orientation):
    path = write(tmp_path / "turned.tif", orientation=orientation)
    agree(path, decoded(path))


def test_a_slide_is_read_by_openslide(tmp_path):
    path = write(tmp_path / "slide.svs", description="Aperio Image Library v1\r\n|AppMag = 20")
    pixels = np.asarray(smooth().numpy())
    agree(path, ArrayImages(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]))


@pytest.mark.skipif(not pyvips.type_find("VipsOperation", "jp2kload"), reason="libvips lacks it")
def test_jpeg_2000_is_read_part_by_part_where_libvips_can(tmp_path):
    path = tmp_path / "large.jp2"
    smooth().jp2ksave(str(path), lossless=True, tile_width=512, tile_height=512)
    agree(path, decoded(path), 20)


def test_jpeg_2000_is_decoded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.jp2", irreversible=False)
    assert torch.equal(opened(tmp_path / "small.jp2").picture(0).permute(1, 2, 0), tensor(pixels))


def tensor(pixels):
    return torch.from_numpy(np.array(pixels))


@pytest.mark.parametrize(
    ("bands", "kind", "colours"),
    [
        (1, "uchar", "b-w"),
        (2, "uchar", "b-w"),
        (4, "uchar", "srgb"),
        (4, "uchar", "cmyk"),
        (1, "ushort", "grey16"),
        (3, "ushort", "rgb16"),
        (4, "ushort", "rgb16"),
    ],
)
def test_channels_and_levels_become_those_of_decoded_pictures(tmp_path, bands, kind, colours):
    path = write(tmp_path / "large.tif", smooth(bands, kind, colours))
    agree(path, decoded(path))


@pytest.mark.parametrize("options", [{"miniswhite": True}, {"bitdepth": 1, "compression": "none"}])
def test_grey_may_be_stored_in_other_ways(tmp_path, options):
    path = write(tmp_path / "grey.tif", (smooth(1, colours="b-w") > 128).cast("uchar"), **options)
    whole = decoded(path)
    look = Look.at(torch.tensor([[0.1, 0.2]]))
    assert torch.equal(opened(path).window(0, look, 96), whole.window(0, look, 96))


def test_floating_point_levels_are_refused(tmp_path):
    path = write(tmp_path / "float.tif", smooth(1, "float", "b-w"))
    with pytest.raises(ValueError, match=r"float\.tif has 1 channels of float .*8 or 16 bits"):
        opened(path).overview(0, 32)


def test_other_pages_are_other_pictures(tmp_path):
    path = write(tmp_path / "pages.tif")
    whole = decoded(path)
    content = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", content, 4)
    while place:
        (count,) = struct.unpack_from("<H", content, place)
        field = struct.unpack_from("<HHII", content, place + 2)
        if field[0] == 254:
            # No longer said to be a smaller copy.
            struct.pack_into("<I", content, place + 10, 0)
        (place,) = struct.unpack_from("<I", content, place + 2 + 12 * count)
    path.write_bytes(content)
    agree(path, whole, 0)


@pytest.mark.parametrize(("fit", "crop"), [("crop", 1), ("crop", 0.875), ("stretch", 1)])
@pytest.mark.parametrize("bands", [1, 3])
def test_they_are_brought_to_squares(tmp_path, fit, crop, bands):
    path = write(tmp_path / "large.tif", smooth(bands, colours="srgb" if bands == 3 else "b-w"))
    expected = load_picture(path, 64, fit, crop)
    found = opened(path, image_size=64, fit=fit, crop=crop)[[0, 0]]
    apart = found[1].permute(1, 2, 0).int() - torch.from_numpy(expected.astype(np.int32))
    assert found.shape == (2, 3, 64, 64)
    assert apart.abs().max() <= 12


def test_random_crops_come_from_all_resolutions(tmp_path):
    path = write(tmp_path / "large.tif")
    augmentation = Augmentation(crop_scale=(0.01, 1), flip=True)
    for epoch in range(5):
        crops = [
            augment(images, augmentation, epoch=epoch) for images in (opened(path), decoded(path))
        ]
        found, expected = (each.overview(0, 32).int() for each in crops)
        assert (found - expected).abs().max() <= 12


def test_folders_mix_large_and_small_pictures(tmp_path):
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            write(tmp_path / split / name / "large.tif")
            Image.new("RGB", (70, 60), (number, 2, 3)).save(tmp_path / split / name / "small.png")
    images = load_images(f"folder:{tmp_path}", "test")
    assert images.sizes(range(4)).tolist() == [[HEIGHT, WIDTH], [60, 70]] * 2
    overviews = images.overview(range(4), 32)
    assert torch.equal(overviews[0], overviews[2])
    assert overviews[3, :, 0, 0].tolist() == [1, 2, 3]
    images.prefetch(range(4))
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy.overview(range(4), 32), overviews)
    assert images.picture(0, 100).shape == (3, 67, 100)


def test_threads_see_what_one_alone_sees(tmp_path):
    slide = write(tmp_path / "slide.svs", description="Aperio Image Library v1")
    images = opened(write(tmp_path / "large.tif"), slide)
    looks = Look.at(torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    order = [0, 1] * 20
    expected, found = images.window(order, looks, 64), []

    def work():
        found.extend(images.window(order, looks, 64) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(torch.equal(each, expected) for each in found)


def test_a_file_that_is_replaced_is_opened_again(tmp_path):
    path = write(tmp_path / "large.tif")
    images, look = opened(path), Look.at(torch.zeros(1, 2))
    first = images.window(0, look, 64)
    write(tmp_path / "new.tif", smooth().invert().cast("uchar"))
    (tmp_path / "new.tif").replace(path)
    assert torch.equal(images.window(0, look, 64), 255 - first)


def test_few_files_stay_open(tmp_path):
    path = write(tmp_path / "0.tif")
    files = [path]
    for number in range(1, 40):
        files.append(tmp_path / f"{number}.tif")
        files[-1].hardlink_to(path)
    images = opened(*files)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    images.overview(range(40), 32)
    if before:
        # A smaller copy has a handle of its own.
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2 * 16


@pytest.mark.parametrize("name", ["large.tif", "large.svs"])
def test_damaged_files_are_named(tmp_path, name):
    path = write(tmp_path / name, description="Aperio Image Library v1")
    content = path.read_bytes()
    corners = torch.tensor([[row, column] for row in (-1.0, 0, 1) for column in (-1.0, 0, 1)])
    for damaged in (
        content[:8] + bytes(len(content) // 2) + content[8 + len(content) // 2 :],
        content[:2] + b"no picture",
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name} .* is damaged"):
            opened(path).window([0] * 9, Look.at(corners), 64)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no picture"):
        opened(path).overview(0, 64)


def test_directories_in_a_ring_end(tmp_path):
    path = write(tmp_path / "ring.tif", pyramid=False)
    whole = decoded(path)
    content = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    struct.pack_into("<I", content, place + 2 + 12 * count, place)
    path.write_bytes(content)
    agree(path, whole, 0)


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    path = write(tmp_path / "large.tif")
    slide = write(tmp_path / "slide.svs")
    for module, file in (("pyvips", path), ("openslide", slide)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"{file.name}.* {module} .*gfnet-env\[large\]"):
            opened(file).overview(0, 32)


def test_small_files_need_no_extra(tmp_path, monkeypatch):
    path = write(tmp_path / "small.tif")
    monkeypatch.setattr("gfnet_env.images.large._LEAST_BYTES", LEAST_BYTES)
    monkeypatch.setitem(sys.modules, "pyvips", None)
    assert open_large(path) is None
    assert opened(path).picture(0).shape == (3, HEIGHT, WIDTH)


def test_what_is_too_large_to_decode_says_how_to_tile_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    path = write(tmp_path / "strips.tif", tile=False, pyramid=False)
    with pytest.raises(ValueError, match=r"strips\.tif is too large to decode") as caught:
        opened(path).overview(0, 32)
    command = str(caught.value).partition(' -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], check=True)
    monkeypatch.undo()
    monkeypatch.setattr("gfnet_env.images.large._LEAST_BYTES", 0)
    agree(tmp_path / "strips.tiled.tif", decoded(path))


MEASURE = r"""
import re, sys
from pathlib import Path
import numpy as np
from PIL import Image
import gfnet_env, torch
from gfnet_env.images import FolderImages
from gfnet_env.policies import RandomPolicy
from gfnet_env import pretrained

def number(name, file):
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self", file).read_text())[1])

def classify(path):
    return gfnet(FolderImages([Path(path)], [0], ["thing"]))

torch.set_num_threads(1)
# No image exits before its last look.
gfnet = gfnet_env.EarlyExitGFNet(pretrained("cluttered-digits").model, RandomPolicy())
small = Path(sys.argv[1]).with_name("small.png")
Image.new("RGB", (64, 64)).save(small)
classify(small)
Path("/proc/self/clear_refs").write_text("5")
idle, read = number("VmHWM", "status"), number("rchar", "io")
assert classify(sys.argv[1]).exit_step.tolist() == [3]
print(number("VmHWM", "status") - idle, number("rchar", "io") - read)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux measures it")
def test_little_of_a_large_file_is_read_into_little_memory(tmp_path):
    path = tmp_path / "large.tif"
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    times = -(-SIDE // 1000)
    picture = pyvips.Image.new_from_array(noise).copy(interpretation="srgb")
    picture = picture.replicate(times, times).crop(0, 0, SIDE, SIDE)
    write(path, picture, compression="jpeg", tile_width=256, tile_height=256, bigtiff=True)
    work = [sys.executable, "-c", MEASURE, str(path)]
    said = subprocess.run(work, capture_output=True, text=True, check=True).stdout
    kibibytes, read = map(int, said.split())
    share = read / path.stat().st_size
    print(f"{SIDE}: {kibibytes / 1024:.1f} MiB above idle, {share:.2%} of the file read")
    assert kibibytes < 64 * 1024
    assert share < 0.02


def test_a_damaged_jpeg_2000_is_named(tmp_path):
    path = tmp_path / "damaged.jp2"
    Image.new("RGB", (20, 30)).save(path)
    # Its first segment, which holds the size, says that it has no length.
    size = b"\xff\x4f\xff\x51"
    start, end = path.read_bytes().split(size)
    path.write_bytes(start + size + b"\0\0" + end[2:])
    with pytest.raises(ValueError, match=r"cannot decode .*damaged\.jp2"):
        opened(path).picture(0)
