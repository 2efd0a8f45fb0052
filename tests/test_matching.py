import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env.data import SPLITS, ReadingOptions
from gfnet_env.matching import ImageOptions


@pytest.fixture
def tree(tmp_path):
    """Thirty pictures of two classes, without splits."""
    for number in range(30):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number, dtype=np.uint8)).save(path)
    return f"folder:{tmp_path}"


def test_images_are_split_as_in_training(tree, tiny_network):
    tiny_network.config.metadata.update(images=tree, image_size=9, image_seed=5)
    in_training = ReadingOptions().load(tree, "test", image_size=9, seed=5)
    images = ImageOptions().open(tiny_network, "test")
    assert torch.equal(images[:], in_training[:])
    assert ImageOptions(image_size=8).open(tiny_network, "test")[[0]].shape == (1, 3, 8, 8)


def test_another_split_of_the_same_folder_is_refused(tree, tiny_network, monkeypatch):
    tiny_network.config.metadata.update(images=tree, image_size=9, image_seed=5)
    folder = Path(tree.partition(":")[2])
    monkeypatch.chdir(folder.parent)
    for spelling in (None, tree, f"{tree}/", f"folder:{folder.name}"):
        with pytest.raises(ValueError, match="image_seed=5 makes, so on images that image_seed=6"):
            ImageOptions(images=spelling, image_seed=6).open(tiny_network, "test")
        assert len(ImageOptions(images=spelling, image_seed=5).open(tiny_network, "test")) > 0
    # What has splits of its own is the same with every seed.
    for split in SPLITS:
        shutil.copytree(folder / "a", folder.parent / "split" / split / "a")
    spec = f"folder:{folder.parent / 'split'}"
    tiny_network.config.metadata["images"] = spec
    files = [ImageOptions(image_seed=seed).open(tiny_network, "test").files for seed in (5, 6)]
    assert files[0] == files[1]


def test_what_was_trained_on_images_that_are_not_square_takes_pictures(tree, tiny_network):
    tiny_network.config.metadata.update(images=None, image_size=None)
    images = ImageOptions(images=tree).open(tiny_network, "test")
    assert images[[0]].shape == (1, 3, 224, 224)


def test_a_network_that_does_not_say_what_it_saw_saw_the_default(tiny_network):
    images = ImageOptions().open(tiny_network, "val")
    assert torch.equal(images[[3]], ImageOptions(image_seed=0).open(tiny_network, "val")[[3]])
    assert not torch.equal(images[[3]], ImageOptions(image_seed=1).open(tiny_network, "val")[[3]])


def test_images_in_memory_have_no_name(tiny_network):
    tiny_network.config.metadata["images"] = None
    with pytest.raises(ValueError, match="images given in memory; pass the images"):
        ImageOptions().open(tiny_network, "test")


def test_options_of_reading_reach_the_pictures(tree):
    read = dataclasses.replace(ReadingOptions(workers=0), memory_gib=9 * 9 * 3 * 4 / 2**30)
    images = read.load(tree, "test", image_size=9, seed=0)
    assert len(images) == 4
    first = images[:]
    for file in images.files:
        file.unlink()
    assert torch.equal(images[:], first)
    with pytest.raises(ValueError, match="workers must be at least 0, not -1"):
        ReadingOptions(workers=-1).load(tree, "train", image_size=9, seed=0)
