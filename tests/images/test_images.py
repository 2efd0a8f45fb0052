import numpy as np
import pytest
import torch

import gfnet_env
from gfnet_env.images import Subset


def test_images_by_index(tiny_images):
    assert len(tiny_images) == 12
    assert tiny_images.num_classes == 5
    picked = tiny_images[[3, 3, 0]]
    assert picked.shape == (3, 3, 24, 32)
    assert picked.dtype == torch.uint8
    assert torch.equal(picked[0], picked[1])
    assert torch.equal(tiny_images[torch.tensor([0])][0], picked[2])
    assert torch.equal(tiny_images[-12 + 12 : 2], tiny_images[np.array([0, 1])])
    assert tiny_images[5].shape == (1, 3, 24, 32)
    assert tiny_images[[]].shape == (0, 3, 24, 32)


def test_a_read_only_array_will_do():
    pixels = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    pixels.flags.writeable = False
    assert len(gfnet_env.ArrayImages(pixels, [0, 1])) == 2


@pytest.mark.parametrize("index", [12, -1])
def test_an_index_out_of_range_is_named(tiny_images, index):
    with pytest.raises(IndexError, match=f"image {index} does not exist: this set has 12"):
        tiny_images[[0, index]]


@pytest.mark.parametrize("indices", [[0.5], [[0, 1]], np.array(["a"])])
def test_indices_must_be_integers(tiny_images, indices):
    with pytest.raises(TypeError, match="one-dimensional sequence of integers"):
        tiny_images[indices]


GOOD = np.zeros((2, 3, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (GOOD.astype(np.float32), [0, 1], "uint8"),
        (GOOD[:, :1], [0, 1], r"\(B, 3, H, W\)"),
        (GOOD, [0.0, 1.0], "labels must be integers"),
        (GOOD, [0], "one per image"),
        (GOOD, [0, -1], "one is -1"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(pixels, labels, message):
    with pytest.raises(ValueError, match=message):
        gfnet_env.ArrayImages(pixels, labels)


def test_a_label_needs_a_name_where_there_are_names():
    with pytest.raises(ValueError, match="label 1 has no name"):
        gfnet_env.ArrayImages(GOOD, [0, 1], class_names=["only"])


def test_a_subset_is_those_images(tiny_images):
    subset = Subset(tiny_images, np.array([7, 2, 5]))
    assert len(subset) == 3
    assert torch.equal(subset[[2, 0]], tiny_images[[5, 7]])
    assert subset.labels.tolist() == [2, 2, 0]
