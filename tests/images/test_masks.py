import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfnet_env.images import ArrayImages, object_masks, open_folder
from gfnet_env.images.masks import box_mask

SIDE = 16


def write(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


@pytest.fixture
def tree(tmp_path):
    """Bright rectangles on black, 30×40, and in masks/ where they are."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                top, left = rng.integers(0, 12, 2)
                mask = np.zeros((30, 40), dtype=np.uint8)
                mask[top : top + 14, left : left + 20] = 1
                picture = np.repeat(255 * mask[:, :, None], 3, axis=2)
                write(tmp_path / split / name / f"{number}.png", picture)
                write(tmp_path / "masks" / split / name / f"{number}.png", mask)
    return tmp_path


@given(st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_boxes_become_their_pixels(edges):
    top, bottom = sorted(edges[:2])
    left, right = sorted(edges[2:])
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[top:bottom, left:right] = True
    assert torch.equal(box_mask(torch.tensor([top, left, bottom, right]), (12, 12)), expected)


def test_a_pixel_belongs_to_a_box_with_its_centre():
    mask = box_mask(torch.tensor([0.4, 0.6, 2.6, 2.4]), (4, 4))
    assert mask.nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]


def test_masks_are_brought_to_the_size_of_their_pictures(tree):
    images = open_folder(tree, "test", image_size=SIDE, fit="crop")
    masks = object_masks(images, tree / "masks")
    found = torch.stack(masks(np.array([5, 0, 3])))
    assert found.shape == (3, SIDE, SIDE)
    assert found.dtype == torch.bool
    # The pictures are bright where the objects are, so that both must have gone the same way.
    assert torch.equal(found, images[[5, 0, 3]][:, 0] >= 128)
    assert 0.05 < found.float().mean() < 0.9


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"fit": "crop", "image_size": 10, "crop": 0.7}, (10, 10)),
        ({"fit": "stretch", "image_size": SIDE}, (SIDE, SIDE)),
        ({"fit": "whole"}, (30, 40)),
    ],
)
def test_masks_go_the_way_of_their_pictures(tree, options, size):
    images = open_folder(tree, "test", **options)
    for index, found in enumerate(object_masks(images, tree / "masks")(np.arange(6))):
        assert found.shape == size
        assert torch.equal(found, images.picture(index)[0] >= 128)


def test_masks_of_pictures_without_splits_have_none_either(tree):
    (tree / "masks" / "test").rename(tree.parent / "plain")
    images = open_folder(tree, "test", image_size=SIDE, fit="crop")
    found = torch.stack(object_masks(images, tree.parent / "plain")(np.arange(6)))
    assert torch.equal(found, images[:][:, 0] >= 128)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA"])
def test_what_is_not_zero_is_the_object_in_any_mode(tree, mode):
    path = tree / "masks" / "test" / "cat" / "0.png"
    images = open_folder(tree, "test", image_size=SIDE, fit="crop")
    (expected,) = object_masks(images, tree / "masks")(np.array([0]))
    marked = Image.open(path).point(lambda value: min(255, 255 * value)).convert("L")
    if mode == "P":
        indices = Image.open(path).copy()
        indices.putpalette([200, 0, 0, 0, 0, 0])  # Black is the object.
        indices.save(path)
    else:
        marked.convert(mode).save(path)
    (found,) = object_masks(images, tree / "masks")(np.array([0]))
    assert torch.equal(found, expected)


def test_a_picture_that_is_turned_has_its_mask_upright(tree):
    upright = Image.open(tree / "test" / "cat" / "0.png")
    exif = Image.Exif()
    exif[274] = 6  # To be shown turned by a quarter, clockwise.
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tree / "test" / "cat" / "0.png", exif=exif)
    images = open_folder(tree, "test", image_size=SIDE, fit="crop")
    (found,) = object_masks(images, tree / "masks")(np.array([0]))
    assert torch.equal(found, images[[0]][0, 0] >= 128)


def test_boxes_are_used_where_there_are_no_mask_files(digits):
    masks = object_masks(digits)(np.array([3, 1]))
    for mask, box in zip(masks, digits.boxes[[3, 1]].long().tolist(), strict=True):
        top, left, bottom, right = box
        assert mask[top:bottom, left:right].all()
        assert mask.sum() == (bottom - top) * (right - left)
    pixels = np.zeros((2, 3, 8, 8), dtype=np.uint8)
    assert object_masks(ArrayImages(pixels, [0, 1])) is None


def test_what_is_wrong_with_a_mask_is_named(tree, digits):
    images = open_folder(tree, "test", image_size=SIDE, fit="crop")
    folder = tree / "masks"
    with pytest.raises(ValueError, match="ClutteredScenes has none; give the images as folder"):
        object_masks(digits, folder)
    path = folder / "test" / "dog" / "1.png"
    write(path, np.ones((30, 39), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"dog.1\.png is 30×39, its picture .* 30×40"):
        object_masks(images, folder)(np.arange(6))
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot decode .*masks.*dog.1\.png"):
        object_masks(images, folder)(np.arange(6))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 6 pictures have no mask: .*dog.1\.png"):
        object_masks(images, folder)


def test_classes_without_a_folder_of_masks_show_no_object(tree):
    images = open_folder(tree, "test")
    folder = tree / "masks"
    shutil.rmtree(folder / "test" / "cat")
    found = object_masks(images, folder)(np.arange(6))
    assert [bool(mask.any()) for mask in found] == [False] * 3 + [True] * 3
    assert found[0].shape == (30, 40)
    shutil.rmtree(folder / "test")
    with pytest.raises(FileNotFoundError, match="6 of 6 pictures have no mask"):
        object_masks(images, folder)
