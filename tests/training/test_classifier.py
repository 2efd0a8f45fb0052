import json
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import gfnet_env
from gfnet_env.data import batches, load_images
from gfnet_env.inference import EarlyExitGFNet, evaluate_policy
from gfnet_env.policies import CenterPolicy, LearnedPolicy
from gfnet_env.training import ClassifierConfig, train_classifier
from gfnet_env.training.classifier import PatchObjective
from gfnet_env.training.patches import TrainingPatches


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


def test_a_frozen_global_encoder_keeps_everything(sets, tmp_path):
    network = train_classifier(config(tmp_path / "run", freeze_global_encoder=True), sets)
    torch.manual_seed(0)
    fresh = gfnet_env.GlanceFocusNetwork(network.config)
    for name, value in network.state_dict().items():
        if name.startswith("global_encoder"):
            assert torch.equal(value, fresh.state_dict()[name]), name
    assert not torch.equal(network.classifier.linear.weight, fresh.classifier.linear.weight)


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


def test_what_a_run_that_is_written_over_has_left_is_not_taken_for_its_own(
    assembled, sets, tmp_path
):
    assembled.save(tmp_path / "run")
    train_classifier(config(tmp_path / "run", overwrite=True), sets)
    assert not (tmp_path / "run" / "policy.json").exists()
    with pytest.raises(FileNotFoundError):
        EarlyExitGFNet.load(tmp_path / "run")


def test_a_loss_that_diverges_is_noticed(sets, tmp_path):
    with pytest.raises(ValueError, match="the loss is .*lower the learning_rate"):
        train_classifier(config(tmp_path / "run", learning_rate=1e30), sets)


@pytest.fixture
def assembled(sets, tmp_path):
    """A run folder as train_policy leaves it, with a learned policy that has learned nothing."""
    torch.manual_seed(0)
    network = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=10, focus_steps=2
    )
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (8,))
    gfnet = gfnet_env.EarlyExitGFNet(network, policy)
    gfnet.save(tmp_path / "policy")
    return gfnet


def test_stage_3_trains_on_the_patches_of_a_policy_that_stays(assembled, sets, tmp_path):
    run = tmp_path / "run"
    config = ClassifierConfig(run=run, policy=tmp_path / "policy", epochs=1, device="cpu")
    network = train_classifier(config, sets)
    assert network.patch_size == 16
    loaded = gfnet_env.EarlyExitGFNet.load(run)
    for key, value in assembled.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[key], value), key
    before, after = assembled.network.state_dict(), loaded.network.state_dict()
    assert not torch.equal(
        before["local_encoder.blocks.0.0.weight"], after["local_encoder.blocks.0.0.weight"]
    )
    assert loaded.budgets
    assert loaded.thresholds != assembled.thresholds
    saved = json.loads((run / "results.json").read_text())
    assert list(saved["accuracy"]) == ["random", "learned", "target"]
    record = evaluate_policy(loaded.network, loaded.policy, sets["test"])
    assert saved["accuracy"]["learned"] == record.accuracy.round(6).tolist()
    assert loaded.network.config.metadata["policy"] == str(tmp_path / "policy")


def test_the_objective_is_of_the_patches_that_the_policy_picks(tiny_network, tiny_images):
    def losses(policy):
        objective = PatchObjective(tiny_network, lambda epoch: policy, encoder_loss=0.5)
        batch = next(batches(tiny_images, 12))
        return objective(batch, 0)

    step = tiny_network.glance(tiny_images[:])
    expected = []
    for encoder in (
        tiny_network.global_encoder,
        tiny_network.local_encoder,
        tiny_network.local_encoder,
    ):
        if expected:
            step = tiny_network.focus(tiny_images[:], torch.zeros(12, 2), step)
        both = (step.logits, encoder.head(step.vector))
        one, own = (cross_entropy(x, tiny_images.labels, reduction="none") for x in both)
        expected.append(one + 0.5 * own)
    found = losses(CenterPolicy())
    assert found.requires_grad
    torch.testing.assert_close(found, torch.stack(expected).mean(dim=0))
    assert not torch.allclose(found, losses(TrainingPatches(seed=0, epoch=0)))


def test_stage_3_holds_out_what_stage_1_did(assembled, tmp_path):
    noise = np.random.default_rng(0)
    for name in map(str, range(10)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    trained_on = {"images": f"folder:{tmp_path / 'pictures'}", "image_size": 24, "image_seed": 3}
    assembled.network.config.metadata.update(trained_on)
    assembled.save(tmp_path / "policy")
    run = tmp_path / "run"
    network = train_classifier(ClassifierConfig(run=run, policy=tmp_path / "policy", epochs=1))
    assert trained_on.items() <= network.config.metadata.items()
    assert json.loads((run / "config.json").read_text())["config"]["image_seed"] == 3


@pytest.mark.usefixtures("assembled")
def test_stage_3_keeps_its_network(sets, tmp_path):
    other = config(tmp_path / "run", policy=tmp_path / "policy", object_share=0.0, patch_size=20)
    with pytest.raises(ValueError, match="patch_size is 16 in .*policy, not 20"):
        train_classifier(other, sets)
    with pytest.raises(ValueError, match="leave out object_share"):
        config(tmp_path / "run", policy=tmp_path / "policy")
    with pytest.raises(ValueError, match="leave out weights"):
        config(tmp_path / "run", policy=tmp_path, object_share=0.0, weights="pretrained")
    with pytest.raises(FileNotFoundError, match="no folder"):
        train_classifier(ClassifierConfig(run=tmp_path / "x", policy=tmp_path / "nowhere"), sets)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_options_of_the_optimiser(sets, tmp_path, optimiser):
    changes = {"optimiser": optimiser, "clip_norm": 1.0, "precision": "bfloat16", "warmup": 0.0}
    network = train_classifier(config(tmp_path / "run", **changes), sets)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert {value.dtype for value in network.parameters()} == {torch.float32}


def test_parts_of_a_batch_add_up_to_it(sets, tmp_path):
    # Batch norm's statistics are of a part, so it is left out.
    frozen = tuple(f"blocks.{number}.1" for number in range(3))
    whole, parts = (
        train_classifier(
            config(tmp_path / str(count), accumulation=count, frozen=frozen, optimiser="sgd"), sets
        ).state_dict()
        for count in (1, 4)
    )
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-5)


def test_the_average_of_the_weights_is_what_is_saved(sets, tmp_path):
    # So slow an average stays at the first step's weights, and those of later steps do not.
    slow = config(tmp_path / "slow", average_decay=1 - 1e-9, epochs=2)
    averaged = train_classifier(slow, sets).state_dict()
    plain = train_classifier(config(tmp_path / "plain", epochs=2), sets).state_dict()
    name = "classifier.linear.weight"
    assert not torch.allclose(averaged[name], plain[name])
    fast = config(tmp_path / "fast", average_decay=1e-9, epochs=2)
    followed = train_classifier(fast, sets).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(followed[key], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"classifier_learning_rate": -1.0}, "classifier_learning_rate must be positive"),
        ({"crop_scale": (0.5, 0.1)}, r"crop_scale must be two rising shares .* not \(0.5, 0.1\)"),
        ({"momentum": 1.0}, r"momentum must be in \(0, 1\)"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"optimiser": "adam"}, "unknown optimiser 'adam'; known: adamw, sgd"),
        ({"precision": "half"}, "unknown precision 'half'; known: float32, bfloat16"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"average_decay": 1.0}, r"average_decay must be in \(0, 1\)"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes must be at least 0"),
        ({"encoder_loss": -1.0}, "encoder_loss must be at least 0"),
        ({"object_share": 1.5}, r"object_share must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **change)
