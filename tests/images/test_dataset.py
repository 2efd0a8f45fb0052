import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env.images import DatasetImages, load_images
from gfnet_env.registry import import_parts

RGB = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


class Pairs:
    """A map-style data set; counts what is asked for."""

    def __init__(self, pictures, labels=None, **attributes):
        self.pictures = pictures
        self.numbers = labels or list(range(len(pictures)))
        self.asked = 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        self.asked += 1
        return self.pictures[index], self.numbers[index]


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(RGB),
        Image.fromarray(RGB).convert("RGBA"),
        RGB,
        RGB.transpose(2, 0, 1),
        torch.from_numpy(RGB),
        torch.from_numpy(RGB.copy()).permute(2, 0, 1),
    ],
)
def test_colour_pictures_of_every_kind(picture):
    images = DatasetImages(Pairs([picture]))
    assert images.sizes([0]).tolist() == [[20, 31]]
    assert torch.equal(images.picture(0), torch.from_numpy(RGB).permute(2, 0, 1))


@pytest.mark.parametrize(
    "picture",
    [RGB[:, :, 0], RGB[:, :, :1], RGB[None, :, :, 0], Image.fromarray(RGB[:, :, 0].copy())],
)
def test_grey_pictures_of_every_kind(picture):
    expected = torch.from_numpy(RGB[:, :, 0].copy()).expand(3, -1, -1)
    assert torch.equal(DatasetImages(Pairs([picture])).picture(0), expected)


def test_pictures_keep_their_own_sizes():
    pictures = [np.full((8 + n, 20 - n), n, dtype=np.uint8) for n in range(5)]
    images = DatasetImages(Pairs(pictures, [3, 1, 4, 1, 5], classes=list("abcdef")))
    assert images.labels.tolist() == [3, 1, 4, 1, 5]
    assert images.class_names == tuple("abcdef")
    assert images.sizes([4, 0]).tolist() == [[12, 16], [8, 20]]
    assert images.overview(range(5), 8)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["targets", "labels"])
def test_labels_that_are_told_need_no_reading(name):
    data = Pairs([RGB] * 3)
    setattr(data, name, torch.tensor([2, 0, 1]))
    images = DatasetImages(data)
    assert images.labels.tolist() == [2, 0, 1]
    assert data.asked == 0
    images.overview([1, 1], 8)
    images.overview([1], 8)
    assert data.asked == 1


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (RGB.astype(np.float32), r"picture 0 of Pairs must be .* not \(20, 31, 3\) torch.float32"),
        (np.zeros((8, 8, 2), dtype=np.uint8), r"with 1 or 3 channels, not \(8, 8, 2\)"),
        (Image.fromarray(np.zeros((8, 8), dtype=np.float32)), "picture 0 of Pairs has floating"),
        (None, "picture 0 of Pairs must be numbers, not None"),
    ],
)
def test_other_pictures_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        DatasetImages(Pairs([picture])).overview([0], 4)


def test_what_is_no_data_set_is_refused():
    with pytest.raises(ValueError, match="int is neither an image set nor a map-style data set"):
        DatasetImages(3)
    with pytest.raises(ValueError, match="dict is neither an image set nor"):
        DatasetImages({"train": [(RGB, 0)]})
    with pytest.raises(ValueError, match=r"item 0 of list must be \(picture, label\), not ndarray"):
        DatasetImages([RGB])
    with pytest.raises(ValueError, match=r"labels must be integers, .* not \(1,\) .*float"):
        DatasetImages(Pairs([RGB], [0.5]))
    named = Pairs([RGB], [1])
    named.classes = ["only"]
    with pytest.raises(ValueError, match="label 1 has no name: the classes of Pairs has 1"):
        DatasetImages(named)


def test_a_function_of_the_users_own_is_an_image_set(tmp_path, monkeypatch):
    source = (
        "import numpy as np\n"
        "from gfnet_env.images import ArrayImages\n"
        "def black(side=8, *, split, seed):\n"
        "    pixels = np.zeros((2, 3, side, side), dtype=np.uint8)\n"
        "    return ArrayImages(pixels, [seed, {'train': 0, 'test': 1}[split]])\n"
        "def pairs(count: int = 3):\n"
        "    return [(np.zeros((9, 9 + n), dtype=np.uint8), n) for n in range(count)]\n"
    )
    (tmp_path / "users_own_images.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="no file may import"):
        load_images("users_own_images:black", trusted=False)
    images = load_images("users_own_images:black:side=12", "test", seed=3)
    assert images.fixed_size == (12, 12)
    assert images.labels.tolist() == [3, 1]
    # Once its user has said so, files may name all that is in it.
    with pytest.raises(ValueError, match="no file may import"):
        load_images("users_own_images:pairs", trusted=False)
    import_parts("users_own_images")
    images = load_images("users_own_images:pairs:count=4", trusted=False)
    assert images.sizes(range(4)).tolist() == [[9, 9], [9, 10], [9, 11], [9, 12]]
