import dataclasses
import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env import EarlyExitGFNet
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import SPLITS, ArrayImages, ReadingOptions, load_images, open_folder
from gfnet_env.inference import assemble, calibrate, fit_temperatures, learn_certainty
from gfnet_env.matching import ImageOptions, check_classes, check_fit
from gfnet_env.models import TrainingData
from gfnet_env.policies import RandomPolicy


@pytest.fixture
def tree(tmp_path):
    """Thirty pictures of two classes, without splits."""
    for number in range(30):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number, dtype=np.uint8)).save(path)
    return f"folder:{tmp_path}"


def test_images_are_split_as_in_training(tree, tiny_network):
    tiny_network.trained_on = TrainingData(images=tree, image_size=9, image_seed=5)
    in_training = ReadingOptions().load(tree, "test", image_size=9, seed=5, fit="crop")
    images = ImageOptions().open(tiny_network, "test")
    assert torch.equal(images[:], in_training[:])
    assert ImageOptions(image_size=8).open(tiny_network, "test")[[0]].shape == (1, 3, 8, 8)


def test_another_split_of_the_same_folder_is_refused(tree, tiny_network, monkeypatch):
    tiny_network.trained_on = TrainingData(images=tree, image_size=9, image_seed=5)
    folder = Path(tree.partition(":")[2])
    monkeypatch.chdir(folder.parent)
    for spelling in (None, tree, f"{tree}/", f"folder:{folder.name}"):
        with pytest.raises(ValueError, match="by image_seed=5, so on images that image_seed=6"):
            ImageOptions(images=spelling, image_seed=6).open(tiny_network, "test")
        assert len(ImageOptions(images=spelling, image_seed=5).open(tiny_network, "test")) > 0
    # What has splits of its own is the same with every seed.
    for split in SPLITS:
        shutil.copytree(folder / "a", folder.parent / "split" / split / "a")
    spec = f"folder:{folder.parent / 'split'}"
    tiny_network.trained_on = TrainingData(images=spec, image_size=9, image_seed=5)
    files = [ImageOptions(image_seed=seed).open(tiny_network, "test").files for seed in (5, 6)]
    assert files[0] == files[1]


def test_what_was_trained_on_images_that_are_not_square_takes_pictures(tree, tiny_network):
    images = ImageOptions(images=tree).open(tiny_network, "test")
    assert images[[0]].shape == (1, 3, 224, 224)


def test_pictures_are_fitted_as_in_training(tree, tiny_network):
    for trained_on, size in (
        (TrainingData(images=tree, fit="whole"), (9, 9)),
        (TrainingData(images=tree, fit="stretch", image_size=7), (7, 7)),
        (TrainingData(images=f"{tree},fit=stretch", fit="crop", image_size=7), (7, 7)),
        (TrainingData(images=tree, fit="crop", crop=0.875, image_size=56), (56, 56)),
    ):
        tiny_network.trained_on = trained_on
        images = ImageOptions().open(tiny_network, "test")
        assert images.sizes([0]).tolist() == [list(size)]
        given = ImageOptions(fit="whole").open(tiny_network, "test")
        assert given.fit == ("stretch" if "fit=" in trained_on.images else "whole")
    folder = tree.partition(":")[2]
    middle = open_folder(Path(folder), "test", image_size=64, fit="crop")[:]
    assert torch.equal(images[:], middle[:, :, 4:60, 4:60])


def test_scenes_have_the_seed_of_training(tiny_network):
    tiny_network.trained_on = TrainingData(images="cluttered-digits", image_seed=1)
    images = ImageOptions().open(tiny_network, "val")
    assert torch.equal(images[[3]], load_images("cluttered-digits", "val", seed=1)[[3]])
    assert not torch.equal(images[[3]], ImageOptions(image_seed=0).open(tiny_network, "val")[[3]])


def test_images_in_memory_have_no_name(tiny_network):
    tiny_network.trained_on = TrainingData(images=None)
    with pytest.raises(ValueError, match="does not say which images .* pass the images"):
        ImageOptions().open(tiny_network, "test")


def test_a_model_imports_nothing(tiny_network):
    tiny_network.trained_on = TrainingData(images="antigravity:fly")
    with pytest.raises(ValueError, match="'antigravity', which no file may import"):
        ImageOptions().open(tiny_network, "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, not 0"),
        ({"image_seed": -1}, "image_seed must be at least 0, not -1"),
        ({"fit": "squeeze"}, "fit must be whole or crop or stretch, not 'squeeze'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ImageOptions(**options)
    with pytest.raises(ValueError, match="memory_gib must be at least 0, not -1"):
        ReadingOptions(memory_gib=-1)


def test_images_must_fit_the_model(tiny_network):
    def images(side, label=4, names=None):
        return ArrayImages(np.zeros((1, 3, side, side), dtype=np.uint8), [label], names)

    check_fit(tiny_network, images(16))
    with pytest.raises(ValueError, match="image 0 is 15×15, smaller than the patch of 16×16"):
        check_fit(tiny_network, images(15))
    with pytest.raises(ValueError, match="knows 5 classes, the images have 6"):
        check_fit(tiny_network, images(16, 5))
    with pytest.raises(ValueError, match="knows 5 classes, the images have 7"):
        check_classes(tiny_network, images(16, 0, list("abcdefg")))


@pytest.mark.parametrize("labels", [[0, 1, 2], [3, 4, 7]])
def test_nothing_is_measured_on_images_of_other_classes(tiny_network, labels):
    """Neither classes in another order nor labels beyond the known ones."""
    tiny_network.config = dataclasses.replace(tiny_network.config, class_names=tuple("abcde"))
    names = tuple("edcba") if max(labels) < 5 else None
    images = ArrayImages(np.zeros((3, 3, 16, 16), dtype=np.uint8), labels, names)
    gfnet = EarlyExitGFNet(tiny_network, RandomPolicy())
    for measure in (
        lambda: evaluate_policy(tiny_network, RandomPolicy(), images),
        lambda: assemble(tiny_network, RandomPolicy(), images),
        lambda: calibrate(gfnet, images),
        lambda: learn_certainty(gfnet, images),
        lambda: fit_temperatures(gfnet, images),
    ):
        with pytest.raises(ValueError, match="the network knows"):
            measure()


def test_options_of_reading_reach_the_pictures(tree):
    read = dataclasses.replace(ReadingOptions(workers=0), memory_gib=9 * 9 * 3 * 4 / 2**30)
    images = read.load(tree, "test", image_size=9, seed=0, fit="crop")
    assert len(images) == 4
    first = images[:]
    for file in images.files:
        file.unlink()
    assert torch.equal(images[:], first)
    with pytest.raises(ValueError, match="workers must be at least 0, not -1"):
        ReadingOptions(workers=-1)


@pytest.mark.parametrize("names", [None, tuple("abcde")])
def test_a_set_without_images_is_named(tiny_network, names):
    images = ArrayImages(np.zeros((0, 3, 16, 16), dtype=np.uint8), np.arange(0), names)
    gfnet = EarlyExitGFNet(tiny_network, RandomPolicy())
    for measure in (
        lambda: evaluate_policy(tiny_network, RandomPolicy(), images),
        lambda: calibrate(gfnet, images),
        lambda: learn_certainty(gfnet, images),
        lambda: fit_temperatures(gfnet, images),
        lambda: GlanceFocusEnv(model=tiny_network, images=images),
    ):
        with pytest.raises(ValueError, match="the set has no images"):
            measure()


@pytest.mark.parametrize("size", ["x", 2.5, 0])
def test_a_batch_has_a_whole_number_of_images(tiny_network, tiny_images, size):
    gfnet = EarlyExitGFNet(tiny_network, RandomPolicy())
    for use in (gfnet.classify, functools.partial(calibrate, gfnet)):
        with pytest.raises(ValueError, match="batch_size must be"):
            use(tiny_images, batch_size=size)


def test_what_cannot_be_evaluated_is_named(tiny_network, tiny_images):
    policy = RandomPolicy()
    for model, other in ((None, policy), (tiny_network, "center"), (tiny_network, RandomPolicy)):
        with pytest.raises(TypeError, match="a model is needed|a policy must be an object"):
            evaluate_policy(model, other, tiny_images)
    for indices, error, message in (
        ([], ValueError, "no images are chosen"),
        ([99], IndexError, "image 99 does not exist"),
        ([0.5], TypeError, "indices must be"),
        ("all", ValueError, "indices must be numbers"),
    ):
        with pytest.raises(error, match=message):
            evaluate_policy(tiny_network, policy, tiny_images, indices=indices)
    assert evaluate_policy(tiny_network, policy, tiny_images, indices=[3, 1]).indices.tolist() == [
        3,
        1,
    ]
