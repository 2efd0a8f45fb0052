import contextlib
import copy
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from gfnet_env.images import FolderImages, load_images, load_picture, open_folder, threads
from gfnet_env.images.picture import picture_size


def write_picture(path: Path, size=(20, 30), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def tree(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / split / name / f"{number}.png"
                write_picture(path, size=(20 + number, 30), seed=number)
    return tmp_path


def test_a_tree_with_splits(tree):
    images = load_images(f"folder:{tree},fit=crop", "test", image_size=16)
    assert len(images) == 6
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images[range(6)].shape == (6, 3, 16, 16)
    assert images[range(6)].dtype == torch.uint8


def test_kept_and_not_kept_pictures_are_the_same(tree):
    kept = open_folder(tree, "train", image_size=16, fit="crop")
    streamed = open_folder(tree, "train", image_size=16, fit="crop", memory_limit=0)
    for _ in range(2):
        assert torch.equal(kept[[5, 1, 1]], streamed[[5, 1, 1]])
    # What was decoded stays when its file goes.
    for file in streamed.files:
        file.unlink()
    assert kept[[5]].shape == (1, 3, 16, 16)
    with pytest.raises(FileNotFoundError, match="no picture"):
        streamed[[5]]


def test_a_tree_without_splits_is_split_by_seed(tmp_path):
    for number in range(20):
        write_picture(tmp_path / "cat" / f"{number}.png")
        write_picture(tmp_path / "dog" / f"{number}.png")

    def files(seed):
        return {
            split: open_folder(tmp_path, split, seed=seed).files
            for split in ("train", "val", "test")
        }

    first = files(seed=0)
    assert [len(part) for part in first.values()] == [28, 6, 6]
    assert len(set().union(*first.values())) == 40
    assert first == files(seed=0)
    assert first != files(seed=1)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "picture.png"
    grey = Image.new("L", (20, 30), 255 if mode == "1" else 100)
    grey.convert(mode).save(path)
    assert load_picture(path, 16).shape == (16, 16, 3)
    assert (load_picture(path) == (255 if mode == "1" else 100)).all()


def test_sixteen_bit_grey_keeps_its_levels(tmp_path):
    levels = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    picture = load_picture(tmp_path / "deep.png")
    assert np.abs(picture[:, :, 0] - levels / 257).max() <= 0.5


@pytest.mark.parametrize(("kind", "name"), [("float32", "floating-point"), ("int32", "32-bit")])
def test_levels_of_which_nothing_says_what_is_white_are_refused(tmp_path, kind, name):
    levels = np.linspace(0, 255, 600).astype(kind).reshape(20, 30)
    Image.fromarray(levels).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=rf"deep\.tif has {name} levels.*8 or 16 bits"):
        load_picture(tmp_path / "deep.tif")


SUFFIXES = "avif bmp gif jfif jp2 jpe jpeg jpg pcx png pgm pnm ppm qoi sgi tga tif tiff webp"


@pytest.mark.parametrize("suffix", [*SUFFIXES.split(), "JPG"])
def test_everything_that_pillow_reads_by_itself_is_used(tmp_path, suffix):
    for number in range(3):
        write_picture(tmp_path / "cat" / f"{number}.{suffix}")
    images = open_folder(tmp_path, "train")
    assert len(images) == 1
    assert images.overview([0], 16).shape == (1, 3, 16, 16)


def test_what_is_left_out_is_said_and_hidden_files_are_not_missed(tree):
    cat = tree / "train" / "cat"
    write_picture(cat / "more" / "0.png")
    (cat / "notes.txt").write_text("mine")
    for hidden in (".ipynb_checkpoints/0.png", "cat/.cache/0.png", "cat/._0.png"):
        write_picture(tree / "train" / hidden)
    with pytest.warns(UserWarning, match=r"cat are left out \(2\), .* pictures: more, notes\.txt"):
        images = open_folder(tree, "train")
    assert images.class_names == ("cat", "dog")
    assert len(images) == 8


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "train/3.png",
            r"train are left out \(1\), since they are in no folder of a class: 3\.png",
        ),
        ("validation/cat/3.png", r"are left out \(1\), since they are no splits: validation"),
    ],
)
def test_pictures_beside_the_folders_are_not_left_out_in_silence(path, message, tree):
    write_picture(tree / path)
    with pytest.warns(UserWarning, match=message):
        assert len(open_folder(tree, "train")) == 8


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    for name in ("bus", "car", "train"):
        for number in range(3):
            write_picture(tmp_path / name / f"{number}.png")
    assert open_folder(tmp_path, "val").class_names == ("bus", "car", "train")
    # But pictures of splits are not pictures of classes.
    for name in ("bus", "car"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(ValueError, match="train has no class folders"):
        open_folder(tmp_path, "train")


def test_no_program_is_started_for_a_picture(tmp_path, monkeypatch):
    path = tmp_path / "postscript.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\nshowpage\n")
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    with pytest.raises(ValueError, match=r"cannot decode .*postscript\.jpg.*cannot identify"):
        load_picture(path)


def test_whatever_decoding_raises_names_the_file(tmp_path):
    """Damage that made decoders raise errors of other kinds."""
    path = tmp_path / "picture.bmp"
    write_picture(path)
    content = path.read_bytes()
    for place in range(14, 54):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with contextlib.suppress(ValueError):
            load_picture(path)
    path.write_bytes(content[:28] + b"\xff" + content[29:])
    with pytest.raises(ValueError, match=r"cannot decode .*picture\.bmp"):
        load_picture(path)


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Tag data)")
def test_damaged_exif_data_do_not_turn_a_picture(tmp_path):
    path = tmp_path / "picture.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 30)).save(path, exif=exif)
    assert picture_size(path) == (20, 30)
    content = path.read_bytes()
    start = content.index(b"Exif")
    for place in range(start + 6, start + 26):
        path.write_bytes(content[:place] + b"\xee" + content[place + 1 :])
        height, width = picture_size(path)
        assert load_picture(path).shape == (height, width, 3)


def test_a_picture_that_is_too_large_says_what_helps(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    write_picture(path, size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"large\.png is too large .*MAX_IMAGE_PIXELS.*pyramid"):
        load_picture(path)


@pytest.mark.parametrize("fit", ["whole", "crop"])
def test_large_pictures_are_decoded_one_by_one(fit, tree, monkeypatch):
    """A file of 20 kB may hold 170 megapixels, and each thread would need memory for them."""
    for number in range(4):
        write_picture(tree / "train" / "cat" / f"{number}.png", size=(60, 60))
    monkeypatch.setattr(threads, "_LARGE", 3599)
    busy, most, loaded = [], [], PngImageFile.load

    def load(picture):
        if picture.size == (60, 60):
            busy.append(picture)
            most.append(len(busy))
            time.sleep(0.01)
            busy.pop()
        return loaded(picture)

    monkeypatch.setattr(PngImageFile, "load", load)
    open_folder(tree, "train", fit, image_size=8, workers=4).overview(range(8), 8)
    assert len(most) >= 4
    assert set(most) == {1}


def test_a_set_can_be_copied(tree):
    images = open_folder(tree, "train", image_size=16, fit="crop")
    pixels = images[range(3)]
    assert torch.equal(copy.deepcopy(images)[range(3)], pixels)


def test_the_middle_of_a_wide_picture_is_kept(tmp_path):
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (load_picture(tmp_path / "wide.png", 10) == 255).all()


def test_a_truncated_jpeg_is_named(tree):
    path = tree / "train" / "cat" / "0.jpg"
    write_picture(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"cannot decode .*0\.jpg .*damaged"):
        open_folder(tree, "train", image_size=16, fit="crop")[range(9)]


def test_a_file_that_is_no_picture_is_named(tree):
    (tree / "test" / "dog" / "notes.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"cannot decode .*notes\.png"):
        open_folder(tree, "test", image_size=16, fit="crop")[range(7)]


def test_a_missing_folder_is_named(tree):
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_folder(tree / "nowhere", "train")
    (tree / "val" / "cat" / "0.png").unlink()
    (tree / "val" / "cat" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"class folder .*val/cat has no pictures"):
        open_folder(tree, "val")
    (tree / "val" / "cat").rmdir()
    with pytest.raises(FileNotFoundError, match="every class of train/ needs one"):
        open_folder(tree, "val")


def test_a_class_that_train_lacks_is_named(tree):
    write_picture(tree / "val" / "emu" / "0.png")
    with pytest.raises(ValueError, match="'emu', which .*train lacks"):
        open_folder(tree, "val")


def test_a_split_that_is_missing_is_named(tree, tmp_path):
    (tree / "val").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has no val/"):
        open_folder(tree, "val")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no class folders"):
        open_folder(tmp_path, "train")
    (tmp_path / "cat").mkdir()
    write_picture(tmp_path / "cat" / "0.png")
    with pytest.raises(ValueError, match="has 1 pictures; three splits need three"):
        open_folder(tmp_path, "train")


@pytest.mark.parametrize(
    "change",
    [{"image_size": 0}, {"workers": -1}, {"memory_limit": -1}, {"crop": 0}, {"fit": "squeeze"}],
)
def test_impossible_settings_are_refused(tree, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        open_folder(tree, "train", **{"fit": "crop", **change})


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    mirrored = pixels[:, ::-1]
    expected = {
        1: pixels,
        2: mirrored,
        3: np.rot90(pixels, 2),
        4: pixels[::-1],
        5: np.rot90(mirrored),
        6: np.rot90(pixels, -1),
        7: np.rot90(mirrored, -1),
        8: np.rot90(pixels),
    }
    assert (load_picture(tmp_path / "turned.png") == expected[orientation]).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_sizes_are_those_of_the_decoded_pictures(tmp_path, name, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / name, exif=exif)
    assert picture_size(tmp_path / name) == load_picture(tmp_path / name).shape[:2]
    assert (picture_size(tmp_path / name) == (30, 20)) == (orientation in (6, 8))


def test_a_png_file_may_say_how_it_is_turned_after_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "late.png"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    last = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    assert load_picture(path).shape == (30, 20, 3)
    assert picture_size(path) == (30, 20)


def test_sizes_need_no_decoding(tree):
    images = open_folder(tree, "test")
    for file in images.files:
        content = file.read_bytes()
        file.write_bytes(content[: content.index(b"IDAT") - 4] + content[-12:])
    assert images.sizes(range(6)).tolist() == [[30, 20], [30, 21], [30, 22]] * 2
    with pytest.raises(ValueError, match="cannot decode"):
        images.overview([0], 8)


def test_what_becomes_of_shapes(tmp_path):
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    path = tmp_path / "wide.png"
    assert (load_picture(path, 10, "crop") > 230).all()
    stretched = load_picture(path, 12, "stretch")
    assert stretched.shape == (12, 12, 3)
    assert (stretched[:, 5:7] > 240).all()
    assert (stretched[:, [0, -1]] < 15).all()
    assert (load_picture(path, 12, "whole") == pixels).all()


def test_the_middle_of_a_larger_square(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    whole = load_picture(tmp_path / "one.png", 64)
    assert (load_picture(tmp_path / "one.png", 56, crop=0.875) == whole[4:60, 4:60]).all()
    with pytest.raises(ValueError, match=r"crop must be in \(0, 1\], not 0"):
        load_picture(tmp_path / "one.png", 56, crop=0)


def test_a_size_that_is_none_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="image_size must be 1 to 30,000 pixels, not 0"):
        load_picture(tmp_path / "one.png", 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_links_to_nowhere_links_that_loop_and_pipes_are_left_out(tree):
    cat = tree / "train" / "cat"
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "gone.png").symlink_to("nowhere")
    (cat / "good.png").symlink_to(sorted(cat.iterdir())[0])
    os.mkfifo(cat / "pipe.png")
    with pytest.warns(UserWarning, match=r"left out \(3\), .*: gone\.png, loop\.png, pipe\.png"):
        images = open_folder(tree, "train")
    assert "good.png" in {file.name for file in images.files}
    assert len(images.digest()) == 64


def test_files_are_paths_kept_as_text(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    files = FolderImages(paths, [0, 1, 0, 1], ["a", "b"]).files
    assert list(files) == paths
    assert list(files[1:3]) == paths[1:3]
    assert files == FolderImages(map(str, paths), [0] * 4, ["a"]).files != files[:2]
    assert hash(files[:2]) == hash(files[:2])
