import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

import gfnet_env
from gfnet_env.data import Batch, load_images
from gfnet_env.training import ClassifierConfig, train_classifier
from gfnet_env.training.classifier import _augment


@pytest.fixture
def sets():
    return {
        "train": load_images("cluttered-digits:scenes=96,canvas=64,pieces=2", "train"),
        "val": load_images("cluttered-digits:scenes=20,canvas=64,pieces=2", "val"),
        "test": load_images("cluttered-digits:scenes=20,canvas=64,pieces=2", "test"),
    }


def config(run, **changes):
    values = {"run": run, "epochs": 1, "batch_size": 32, "focus_steps": 2, "object_share": 0.5}
    return ClassifierConfig(**values | changes)


def test_a_run_can_be_loaded_and_says_how_it_came_about(sets, tmp_path):
    network = train_classifier(config(tmp_path / "run", seed=3), sets)
    loaded = gfnet_env.GlanceFocusNetwork.load(tmp_path / "run")
    assert loaded.config == network.config
    assert loaded.config.class_names == tuple("0123456789")
    assert loaded.config.metadata["seed"] == 3
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["images"] == 20
    assert [len(accuracy) for accuracy in results["accuracy"].values()] == [3, 3]
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["patch_size"] == 32
    assert saved["provenance"]["versions"]["torch"] == metadata.version("torch")
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights(sets, tmp_path):
    runs = [
        train_classifier(config(tmp_path / name, seed=seed, flip=True), sets).state_dict()
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())
    assert any(not torch.equal(value, runs[2][key]) for key, value in runs[0].items())


def test_training_lowers_the_loss(tmp_path):
    # Two flat colours: anything that learns at all tells them apart.
    pixels = np.zeros((64, 3, 32, 32), dtype=np.uint8)
    pixels[::2] = 200
    images = gfnet_env.ArrayImages(pixels, np.arange(64) % 2)
    sets = dict.fromkeys(("train", "val", "test"), images)
    network = train_classifier(config(tmp_path / "run", epochs=8, patch_size=16), sets)
    with torch.no_grad():
        step = network.glance(images[:])
        step = network.focus(images[:], torch.zeros(64, 2), step)
    assert (step.classes == images.labels).all()


@pytest.fixture
def augmented(tiny_network):
    """Pixels that say where they were, and the locations that ``_augment`` gives with them."""
    columns = torch.arange(64, dtype=torch.uint8).expand(200, 3, 64, 64)
    boxes = torch.tensor([[2.0, 40.0, 12.0, 50.0]]).expand(200, 4)
    images = gfnet_env.ArrayImages(columns, torch.zeros(200, dtype=torch.int64), boxes=boxes)
    batch = Batch(np.arange(200), images[:], images.labels)

    def augment(**changes):
        rng = np.random.default_rng(0)
        return _augment(batch, images, tiny_network, config(Path("run"), **changes), rng)

    return augment


def test_patches_are_mirrored_with_their_image(augmented):
    pixels, locations = augmented(flip=True, object_share=1.0)
    mirrored = pixels[:, 0, 0, 0] == 63
    assert 50 < mirrored.sum() < 150
    # The object is right of the middle, and left of it in a mirror.
    assert (locations[:, ~mirrored, 1] > 0).all()
    assert (locations[:, mirrored, 1] < 0).all()
    assert (locations[..., 0] < 0).all()


def test_the_wanted_share_of_patches_is_on_the_object(augmented):
    _, locations = augmented(object_share=0.3)
    corners = (locations + 1) / 2 * 48
    centre = torch.tensor([7.0, 45.0])
    hits = ((corners <= centre) & (centre <= corners + 16)).all(dim=2).float().mean()
    assert 0.3 < hits < 0.45
    assert torch.equal(augmented(object_share=0.3)[1], locations)


def test_frozen_parts_keep_their_weights_and_statistics(sets, tmp_path):
    network = train_classifier(config(tmp_path / "run", frozen=("blocks.0",), epochs=1), sets)
    torch.manual_seed(0)
    fresh = gfnet_env.GlanceFocusNetwork(network.config)
    for name, value in network.local_encoder.state_dict().items():
        kept = torch.equal(value, fresh.local_encoder.state_dict()[name])
        assert kept == name.startswith(("blocks.0", "mean", "std")), name
    with pytest.raises(ValueError, match=r"no part 'blocks.7' to freeze; known: blocks, blocks.0"):
        train_classifier(config(tmp_path / "other", frozen=("blocks.7",)), sets)
    assert not (tmp_path / "other").exists()


def test_a_cascade_trains_beside_a_frozen_global_encoder(sets, tmp_path):
    run = tmp_path / "run"
    network = train_classifier(config(run, classifier="cascade", freeze_global_encoder=True), sets)
    torch.manual_seed(0)
    fresh = gfnet_env.GlanceFocusNetwork(network.config)
    for name, value in fresh.state_dict().items():
        kept = torch.equal(value, network.state_dict()[name])
        assert kept == (name.startswith("global_encoder") or name.endswith((".mean", ".std"))), name


def test_images_that_do_not_fit_are_found_before_anything_is_written(sets, tmp_path):
    with pytest.raises(ValueError, match="64×64 are smaller than the patch of 65×65"):
        train_classifier(config(tmp_path / "run", patch_size=65), sets)
    more = gfnet_env.ArrayImages(np.zeros((12, 3, 64, 64), dtype=np.uint8), np.arange(12))
    with pytest.raises(ValueError, match="knows 10 classes, the images have 12"):
        train_classifier(config(tmp_path / "run"), sets | {"val": more})
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_kept(sets, tmp_path):
    (tmp_path / "results.json").write_text("precious")
    with pytest.raises(FileExistsError, match="already exists"):
        train_classifier(config(tmp_path), sets)
    assert (tmp_path / "results.json").read_text() == "precious"


def test_a_loss_that_diverges_is_noticed(sets, tmp_path):
    with pytest.raises(ValueError, match="the loss is .*lower the learning_rate"):
        train_classifier(config(tmp_path / "run", learning_rate=1e30), sets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"classifier_learning_rate": -1.0}, "classifier_learning_rate must be positive"),
        ({"object_share": 1.5}, r"object_share must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **change)
