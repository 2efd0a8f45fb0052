import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfnet_env.images import ArrayImages, Augmentation, augment, load_images, open_folder
from gfnet_env.images.augmentation import random_resized_crop
from gfnet_env.looks import Look, ViewConfig
from gfnet_env.randomness import uniform

SIDE = 48
EVERYTHING = Augmentation(crop_scale=(0.2, 1), flip=True)


@pytest.fixture
def images():
    """Bright rectangles on black, and where they are."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 24, (200, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, 24, (200, 2))], axis=1)
    pixels = np.zeros((200, 3, SIDE, SIDE), dtype=np.uint8)
    for picture, (top, left, bottom, right) in zip(pixels, boxes, strict=True):
        picture[:, top:bottom, left:right] = 255
    return ArrayImages(pixels, np.arange(200) % 3, boxes=boxes)


@pytest.fixture
def tree(tmp_path):
    """Six pictures of three sizes and two classes, in the split train."""
    for number, size in enumerate([(40, 30), (64, 64), (30, 90)] * 2):
        pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        path = tmp_path / "train" / "ab"[number // 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


@given(
    st.integers(5, 300),
    st.integers(5, 300),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted),
)
def test_crops_are_within_the_picture_and_the_bounds(height, width, scale, ratio):
    draws = uniform(0, np.arange(50)[:, None], np.arange(40)).reshape(50, 10, 4)
    crops = random_resized_crop(draws, (height, width), scale, ratio)
    sides = crops[:, 2:] - crops[:, :2]
    assert (sides >= 1).all()
    assert (crops >= 0).all()
    assert (crops[:, 2:] <= [height, width]).all()
    # A crop of whole pixels can miss a bound by half a pixel at either end.
    assert ((sides[:, 1] + 0.5) / (sides[:, 0] - 0.5) >= ratio[0] * 0.999).all()
    assert ((sides[:, 1] - 0.5) / (sides[:, 0] + 0.5) <= ratio[1] * 1.001).all()


def test_crops_are_spread_as_they_should_be():
    draws = uniform(0, np.arange(4000)[:, None], np.arange(40)).reshape(-1, 10, 4)
    crops = random_resized_crop(draws, (1000, 1000), (0.1, 0.5), (0.5, 2.0))
    height, width = (crops[:, 2:] - crops[:, :2]).T
    shares = height * width / 1e6
    assert abs(shares.mean() - 0.3) < 0.01
    assert abs(np.quantile(shares, 0.25) - 0.2) < 0.01
    assert abs(np.log(width / height).mean()) < 0.03
    centres = (crops[:, :2] + crops[:, 2:]) / 2
    assert (abs(centres.mean(axis=0) - 500) < 10).all()


def test_a_picture_in_which_no_crop_fits_gives_its_middle():
    sizes = [(10, 100), (100, 12)]
    crops = random_resized_crop(np.zeros((2, 10, 4)), sizes, (1.0, 1.0), (0.75, 4 / 3))
    assert crops.tolist() == [[0, 43, 10, 56], [42, 0, 58, 12]]


def test_what_is_drawn_depends_on_seed_epoch_and_index_only(images):
    seen = augment(images, EVERYTHING, seed=1, epoch=2)
    alone = seen[[7]][0]
    assert torch.equal(alone, seen[[1, 7, 3]][1])
    assert torch.equal(alone, augment(images, EVERYTHING, seed=1, epoch=2)[[7]][0])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        differing = (augment(images, EVERYTHING, **other)[:] != seen[:]).flatten(1).any(dim=1)
        assert differing.float().mean() > 0.9


def test_half_of_the_images_are_mirrored(images):
    flipped = augment(images, Augmentation(flip=True))
    whole, pixels = images[:], flipped[:]
    mirrored = (pixels == whole.flip(3)).flatten(1).all(dim=1)
    kept = (pixels == whole).flatten(1).all(dim=1)
    assert (mirrored | kept).all()
    assert 75 < mirrored.sum() < 125


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(flip=True), Augmentation(crop_scale=(0.2, 1)), EVERYTHING],
)
def test_boxes_follow_the_pixels(images, augmentation):
    seen = augment(images, augmentation)
    assert (seen.boxes >= 0).all()
    assert (seen.boxes <= SIDE).all()
    for picture, box in zip(seen[:], seen.boxes, strict=True):
        bright = (picture[0] > 127).nonzero()
        if len(bright) == 0:
            assert ((box[2:] - box[:2]).min()) < 2
            continue
        found = torch.cat([bright.amin(dim=0), bright.amax(dim=0) + 1])
        assert (found - box).abs().max() < 2


def test_pictures_are_cropped_at_full_resolution(tree):
    images = open_folder(tree, "train", image_size=16, fit="crop")
    seen = augment(images, Augmentation(crop_scale=(0.2, 0.4)), seed=3)
    pixels = seen[[4]][0]
    with Image.open(images.files[4]) as picture:
        whole = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    # The same crop of the same pixels in memory, where 64×64 is all there is.
    in_memory = ArrayImages(whole.repeat(6, 1, 1, 1), images.labels)
    large = augment(in_memory, Augmentation(crop_scale=(0.2, 0.4)), seed=3)[[4]]
    expected = torch.nn.functional.interpolate(large.float(), (16, 16), mode="area")[0]
    assert (pixels - expected).abs().mean() < 12
    assert (images[[4]][0].float() - expected).abs().mean() > 20


@pytest.mark.parametrize("workers", [0, 3])
def test_crops_are_the_same_however_pictures_are_read(tree, workers):
    square = {"image_size": 16, "fit": "crop"}
    reference = augment(open_folder(tree, "train", **square), EVERYTHING)[:]
    options = {**square, "workers": workers, "memory_limit": 0}
    assert torch.equal(augment(open_folder(tree, "train", **options), EVERYTHING)[:], reference)


def test_scenes_and_what_is_drawn_for_them_are_independent():
    # In the first epoch of seed 0 the keys of a training scene and of its crop are alike.
    scenes = load_images("cluttered-digits:scenes=2000", "train", seed=0)
    flipped = augment(scenes, Augmentation(flip=True), seed=0, epoch=0)
    mirrored = (flipped.boxes != scenes.boxes).any(dim=1)
    shares = [mirrored[scenes.labels == label].float().mean() for label in range(10)]
    assert all(0.38 < share < 0.62 for share in shares)


def test_whole_pictures_are_cropped_at_their_own_resolution(tree):
    images = open_folder(tree, "train")
    seen = augment(images, EVERYTHING, seed=3)
    draws = uniform(0x61756721, 3, 0, np.arange(6)[:, None], np.arange(1, 41)).reshape(6, 10, 4)
    crops = random_resized_crop(draws, images.sizes(range(6)), (0.2, 1), (3 / 4, 4 / 3))
    mirrored = uniform(0x61756721, 3, 0, np.arange(6), 0) < 0.5
    assert 0 < mirrored.sum() < 6
    for index, (top, left, bottom, right) in enumerate(crops.tolist()):
        expected = images.picture(index)[:, top:bottom, left:right]
        expected = expected.flip(2) if mirrored[index] else expected
        assert seen.sizes([index]).tolist() == [list(expected.shape[1:])]
        assert torch.equal(seen.picture(index), expected)
        height, width = expected.shape[1:]
        if min(height, width) >= 8:
            corner = seen.window([index], Look.at(torch.tensor([[-1.0, 1.0]])), 8)[0]
            assert torch.equal(corner, expected[:, :8, width - 8 :])


def test_a_crop_smaller_than_the_patch_is_enlarged(tree):
    seen = augment(open_folder(tree, "train"), Augmentation(crop_scale=(0.05, 0.1)))
    assert (seen.sizes(range(6)) < 30).any()
    looks = Look.at(torch.zeros(6, 2))
    assert torch.equal(seen.window(range(6), looks, 30)[1], seen.overview(range(6), 30)[1])
    with pytest.raises(ValueError, match="0.png is 30×40, smaller than the patch of 32×32"):
        seen.overview([0], 32)


def test_crops_of_a_batch_are_decoded_once(tree):
    images = open_folder(tree, "train", image_size=16, fit="crop")
    seen = augment(images, EVERYTHING)
    seen.prefetch(range(6))
    for file in images.files:
        file.unlink()
    assert seen.overview(range(6), 8).shape == (6, 3, 8, 8)
    assert seen.window([3], Look.at(torch.zeros(1, 2)), 8).shape == (1, 3, 8, 8)


def test_nothing_to_do_is_nothing_done(images):
    assert augment(images, Augmentation()) is images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_scale": (0, 1)}, r"crop_scale must be positive, not 0"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale .* not \(0.5, 0.2\)"),
        ({"crop_scale": (0.5, 1.5)}, r"crop_scale must be in \[0, 1\], not 1.5"),
        ({"crop_ratio": (2, 1)}, r"crop_ratio .* not \(2.0, 1.0\)"),
    ],
)
def test_impossible_crops_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)


def test_all_views_of_a_picture_change_their_colours_alike(tree):
    plain = open_folder(tree, "train")
    seen = augment(plain, Augmentation(color_jitter=0.5), seed=3, epoch=1)
    view, indices = ViewConfig(size=8), np.arange(6)
    for place in (torch.zeros(6, 2), torch.ones(6, 2)):
        before, after = (images.window(indices, Look.at(place), view) for images in (plain, seen))
        assert not torch.equal(before, after)
        draws = uniform(0x61756721, 3, 1, indices[:, None], np.arange(41, 44))
        brightness, contrast, saturation = (
            (0.5 + torch.from_numpy(draws)).view(6, 3, 1, 1, 1).unbind(1)
        )
        expected = (before * brightness - 127.5) * contrast + 127.5
        grey = (expected * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        expected = (grey + saturation * (expected - grey)).clamp(0, 255)
        torch.testing.assert_close(after.double(), expected, atol=0.51, rtol=0)
    other = augment(plain, Augmentation(color_jitter=0.5), seed=3, epoch=2)
    assert not torch.equal(other.window(indices, Look.at(place), view), after)


def test_colours_of_grey_images_change_and_of_normalised_ones_cannot():
    grey = load_images("cluttered-digits:scenes=4", "test")
    seen = augment(grey, Augmentation(color_jitter=0.2))
    before, after = grey[np.arange(4)].float(), seen[np.arange(4)].float()
    assert not torch.equal(before, after)
    assert ((after - before).abs() < 0.2 * before + 0.2 * 127.5 + 0.04 * 255 + 1).all()
    normalised = ArrayImages(torch.zeros(4, 3, 8, 8), np.arange(4) % 2, normalised=True)
    with pytest.raises(ValueError, match="color_jitter is 0.2, but colours of normalised images"):
        augment(normalised, Augmentation(color_jitter=0.2))
