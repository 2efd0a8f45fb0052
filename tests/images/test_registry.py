import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env.images import load_images


def test_the_default_needs_no_download_and_no_argument():
    images = load_images()
    assert len(images) == 20_000
    assert images[[0]].shape == (1, 3, 128, 128)
    assert images.class_names == tuple("0123456789")
    assert len(load_images(split="test")) == 2_000


def test_no_scanned_digit_is_in_two_splits():
    # Bare and unscaled, a scene's box is the scanned digit itself.
    spec = "cluttered-digits:digit=8,piece=1,pieces=0,canvas=8"
    scans = []
    for split in ("train", "val", "test"):
        images = load_images(f"{spec},scenes=4000", split)
        scans.append({picture.numpy().tobytes() for picture in images[range(4000)][:, 0]})
        assert len(scans[-1]) > 300
    train, val, test = scans
    assert not train & val
    assert not train & test
    assert not val & test


def test_options_change_the_scenes():
    images = load_images("cluttered-digits:canvas=100,scenes=7", "val")
    assert len(images) == 7
    assert images[[6]].shape == (1, 3, 100, 100)


def test_the_train_split_may_have_more_scenes():
    few, many = (load_images(f"cluttered-digits:scenes=3{more}") for more in ("", ",train=9"))
    assert (len(few), len(many)) == (3, 9)
    assert torch.equal(few[range(3)], many[range(3)])
    assert len(load_images("cluttered-digits:scenes=3,train=9", "test")) == 3


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("cluttered-digit", "train", "unknown image set 'cluttered-digit'; did you mean"),
        ("cluttered-digits:colour=1", "train", "no parameter 'colour'; it has :canvas=128"),
        ("cluttered-digits:canvas=big", "train", "canvas of .* must be a whole number, not 'big'"),
        ("cluttered-digits:scenes=0", "train", "1 to 10,000,000 scenes, not 0"),
        ("cluttered-digits:train=1000000000000", "train", "1 to 10,000,000 scenes, not 1000"),
        ("cluttered-digits:canvas=1000000", "train", "canvas must be at most 10,000 pixels"),
        ("cluttered-digits:canvas=500,digit=300", "train", "digit must be at most 256 pixels"),
        ("cluttered-digits", "holdout", "unknown split 'holdout'"),
        ("folder:", "train", "lacks a parameter: .* .path.; it has :path,fit=whole"),
        ("folder:x,fit=squeeze", "train", "fit of .* must be whole or crop or stretch"),
        ("folder:x,split=test", "train", "no parameter 'split'; it has :path,fit=whole"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(spec, split, message):
    with pytest.raises(ValueError, match=message):
        load_images(spec, split)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", "1"), ("seed", -1), ("seed", 2**70), ("workers", math.nan), ("workers", 10**9)),
        *(("memory_limit", 1.5), ("memory_limit", np.zeros(2)), ("image_size", "8")),
    ],
)
def test_wrong_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be "):
        load_images("cluttered-digits:scenes=2", **{name: value})


def test_a_set_is_itself(tiny_images):
    assert load_images(tiny_images) is tiny_images


def test_a_spec_may_say_what_becomes_of_shapes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 12, 3), dtype=np.uint8)).save(
            tmp_path / "train" / name / "0.png"
        )
    spec = f"folder:{tmp_path}"
    assert load_images(spec).sizes([0]).tolist() == [[8, 12]]
    for said, given in ((",fit=crop", None), (",fit=stretch", "crop"), ("", "crop")):
        images = load_images(spec + said, fit=given, image_size=4)
        assert images.fixed_size == (4, 4)
        assert images.fit == (said.rpartition("=")[2] or given)


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """A few noise digits in the files of MNIST."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 10)):
        write_idx(raw / f"{name}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "canvas"),
    [("cluttered-mnist", 128), ("cluttered-mnist-60", 60), ("cluttered-mnist-100", 100)],
)
def test_cluttered_mnist_from_local_files(mnist, name, canvas):
    for split in ("train", "val", "test"):
        images = load_images(f"{name}:scenes=5", split, data_root=mnist)
        assert images[range(5)].shape == (5, 3, canvas, canvas)
        assert torch.equal(images[range(5)], load_images(name, split, data_root=mnist)[range(5)])
