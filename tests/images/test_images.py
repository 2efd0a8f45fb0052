import numpy as np
import pytest
import torch
from torch.nn import functional

import gfnet_env
from gfnet_env.images import ArrayImages, Augmentation, Subset, augment
from gfnet_env.looks import Look, ViewConfig


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


@pytest.mark.parametrize("indices", [[0.5], [[0, 1]], True])
def test_indices_must_be_integers(tiny_images, indices):
    with pytest.raises(TypeError, match="one-dimensional sequence of integers"):
        tiny_images[indices]


@pytest.mark.parametrize("indices", [np.array(["a"]), [0, [1]], [None], {}, 10**400])
def test_indices_must_be_numbers(tiny_images, indices):
    with pytest.raises(ValueError, match="indices must be numbers, not"):
        tiny_images[indices]


GOOD = np.zeros((2, 3, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (GOOD.astype(np.float32), [0, 1], r"uint8.*\(255 \* x\)\.round\(\).*normalised=True"),
        (GOOD[:, :1], [0, 1], r"\(B, 3, H, W\).*repeats the channel of grey pictures"),
        (GOOD.transpose(0, 2, 3, 1), [0, 1], r"permute\(0, 3, 1, 2\)"),
        (GOOD[0], [0], r"pixels\[None\] makes a batch of one"),
        (GOOD.tolist(), [0, 1], "an array or a tensor.*not a list; DatasetImages takes"),
        (GOOD, [0.0, 1.0], "labels must be integers"),
        (GOOD, [0], "one per image"),
        (GOOD, [0, -1], "one is -1"),
        (GOOD, [0, 2**40], f"labels must be in .*; one is {2**40}"),
        (GOOD, torch.zeros(2, device="meta"), "labels must be numbers, not .*no data"),
        (
            torch.zeros(2, 3, 4, 4, device="meta"),
            [0, 1],
            "a dense tensor in memory, not .* on meta",
        ),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(pixels, labels, message):
    with pytest.raises(ValueError, match=message):
        gfnet_env.ArrayImages(pixels, labels)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int64])
def test_labels_are_integers_of_any_kind(kind):
    labels = gfnet_env.ArrayImages(GOOD, np.array([1, 0], dtype=kind)).labels
    assert labels.equal(torch.tensor([1, 0]))


def test_a_label_needs_a_name_where_there_are_names():
    with pytest.raises(ValueError, match="label 1 has no name"):
        gfnet_env.ArrayImages(GOOD, [0, 1], class_names=["only"])
    for wrong in ("ab", [None, "b"], {0: "a", 1: "b"}, {"a", "b"}):
        with pytest.raises(ValueError, match="class_names must be .* not"):
            gfnet_env.ArrayImages(GOOD, [0, 1], class_names=wrong)
    for right in ([3, 4], np.array([3, 4]), ("3", "4")):
        assert gfnet_env.ArrayImages(GOOD, [0, 1], right).class_names == ("3", "4")
    with pytest.raises(ValueError, match="normalised must be .*, not 0"):
        gfnet_env.ArrayImages(GOOD, [0, 1], normalised=0)


def test_a_subset_is_those_images(tiny_images):
    subset = Subset(tiny_images, np.array([7, 2, 5]))
    assert len(subset) == 3
    assert torch.equal(subset[[2, 0]], tiny_images[[5, 7]])
    assert subset.labels.tolist() == [2, 2, 0]
    assert Subset(tiny_images, [5, 2]).labels.tolist() == [0, 2]
    assert Subset(tiny_images, np.array([2, 5])[::-1]).labels.tolist() == [0, 2]
    with pytest.raises(IndexError, match="image 12 does not exist"):
        Subset(tiny_images, [12])


def test_a_subset_is_seen_as_its_set(tiny_images):
    images = ArrayImages(tiny_images[:], tiny_images.labels, boxes=np.ones((12, 4)))
    subset = Subset(images, np.array([7, 2, 5]))
    looks = Look.at(torch.tensor([[0.3, -0.2], [1.0, 0.0]]), torch.tensor([1.0, 1.4]))
    assert torch.equal(subset.overview([2, 0], 16), images.overview([5, 7], 16))
    assert torch.equal(subset.window([2, 0], looks, 16), images.window([5, 7], looks, 16))
    assert torch.equal(subset.sizes([1]), images.sizes([2]))
    assert subset.boxes.shape == (3, 4)
    seen = augment(subset, Augmentation(crop_scale=(0.5, 0.6)))
    assert seen.originals is seen
    assert seen.overview(range(3), 16).shape == (3, 3, 16, 16)


def test_views_are_exact_or_resized(tiny_images):
    view = ViewConfig(size=16)
    whole = tiny_images[:]
    expected = functional.interpolate(whole, (16, 16), mode="bilinear", antialias=True)
    assert torch.equal(tiny_images.overview(range(12), view), expected)
    corners = Look.at(torch.tensor([[-1.0, 1.0]]).expand(12, 2))
    assert torch.equal(tiny_images.window(range(12), corners, 16), whole[:, :, :16, 16:])
    # Beyond the picture there is nothing to see.
    large = Look.at(torch.zeros(12, 2), torch.full((12,), 9.0))
    assert torch.equal(tiny_images.window(range(12), large, view), expected)
    middle = Look.at(torch.zeros(12, 2), torch.full((12,), 1.25))
    part = functional.interpolate(
        whole[:, :, 2:22, 6:26], (16, 16), mode="bilinear", antialias=True
    )
    assert torch.equal(tiny_images.window(range(12), middle, view), part)
    with pytest.raises(ValueError, match="2 images were given 1 looks"):
        tiny_images.window([0, 1], Look.at(torch.zeros(1, 2)), 16)
    with pytest.raises(ValueError, match="image 3 is 24×32, smaller than the patch of 25×25"):
        tiny_images.overview([3], 25)


def test_a_picture_by_itself(tiny_images):
    assert torch.equal(tiny_images.picture(3), tiny_images[3][0])
    assert torch.equal(tiny_images.picture(3, 32), tiny_images[3][0])
    reduced = functional.interpolate(
        tiny_images[3], (12, 16), mode="bilinear", antialias=True, align_corners=False
    )
    assert torch.equal(tiny_images.picture(3, 16), reduced[0])
    with pytest.raises(IndexError, match="image 12 does not exist"):
        tiny_images.picture(12)


@pytest.mark.parametrize("box", [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [5, 0, 4, 1], ["a"] * 4])
def test_boxes_are_boxes(tiny_images, box):
    with pytest.raises(ValueError, match="boxes must be"):
        ArrayImages(tiny_images[:], boxes=[box] * 12)


def test_arrays_may_have_another_order_of_bytes(tiny_images):
    labels = tiny_images.labels.numpy()
    for kind in (">i8", ">u2", "<i4"):
        assert ArrayImages(tiny_images[:], labels.astype(kind)).labels.tolist() == labels.tolist()
    with pytest.raises(ValueError, match="images must be uint8 in 0..255, not torch.uint16"):
        ArrayImages(np.zeros((1, 3, 8, 8), ">u2"))
    with pytest.raises(
        ValueError, match="images must be a dense tensor in memory, not torch.sparse_coo on cpu"
    ):
        ArrayImages(torch.zeros(1, 3, 8, 8, dtype=torch.uint8).to_sparse())
