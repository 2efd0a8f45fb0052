import itertools
import json
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import gfnet_env
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.images import Subset, batches, load_images
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.looks import Look
from gfnet_env.models import TrainingData
from gfnet_env.policies import CenterPolicy, LearnedPolicy
from gfnet_env.rollout import glance, look
from gfnet_env.training import (
    DEFAULT_SCHEDULE,
    BaselineConfig,
    ClassifierConfig,
    ClassifierSchedule,
    train_baselines,
    train_classifier,
)
from gfnet_env.training.classifier import LookObjective
from gfnet_env.training.loop import open_run
from gfnet_env.training.optimisation import frozen_parts
from gfnet_env.training.patches import TrainingPatches
from gfnet_env.training.processes import Processes


@pytest.fixture
def sets():
    return {
        "train": load_images("cluttered-digits:scenes=96,canvas=64,pieces=2", "train"),
        "val": load_images("cluttered-digits:scenes=20,canvas=64,pieces=2", "val"),
        "test": load_images("cluttered-digits:scenes=20,canvas=64,pieces=2", "test"),
    }


def config(run, **changes):
    values = {"run": run, "epochs": 1, "batch_size": 32, "focus_steps": 2, "object_share": 0.5}
    return ClassifierConfig.of(**values | changes)


def test_a_run_can_be_loaded_and_says_how_it_came_about(sets, tmp_path):
    network = train_classifier(config(tmp_path / "run", seed=3), sets)
    loaded = gfnet_env.GlanceFocusNetwork.load(tmp_path / "run")
    assert loaded.config == network.config
    assert loaded.class_names == tuple("0123456789")
    assert loaded.trained_on.seed == 3
    assert loaded.trained_on.images is None
    assert loaded.trained_on.image_size == 64
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


def test_a_network_begins_with_another(sets, tmp_path):
    mined = {"windows": "mined", "where_scales": (1.0,), "object_share": None}
    begun = train_classifier(config(tmp_path / "first", **mined), sets)
    # At this rate nothing is learned, so that the beginning is still to be seen at the end.
    changes = {"baseline": tmp_path / "first", "learning_rate": 1e-12, "seed": 1, **mined}
    network = train_classifier(config(tmp_path / "run", **changes), sets)
    expected = dict(begun.named_parameters())
    for name, value in network.named_parameters():
        taken = ("encoder" in name and ".head." not in name) or name.startswith("where.")
        assert torch.allclose(value, expected[name], atol=1e-6) == taken, name
    with pytest.raises(ValueError, match="first do not fit this configuration"):
        train_classifier(config(tmp_path / "other", encoder="compact-deep", **changes), sets)
    assert not (tmp_path / "other").exists()


def test_training_lowers_the_loss(tmp_path):
    # Two flat colours: anything that learns at all tells them apart.
    pixels = np.zeros((64, 3, 32, 32), dtype=np.uint8)
    pixels[::2] = 200
    images = gfnet_env.ArrayImages(pixels, np.arange(64) % 2)
    sets = dict.fromkeys(("train", "val", "test"), images)
    network = train_classifier(config(tmp_path / "run", epochs=8, patch_size=16), sets)
    assert evaluate_policy(network, CenterPolicy(), images).correct[:, 1].all()


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
    many = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1)) for _ in range(100)))
    with pytest.raises(ValueError, match=r"freeze; known: 0, .*, …; did you mean '99'\?") as error:
        frozen_parts([many], ["99x"])
    assert len(str(error.value)) < 120


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
    with pytest.raises(ValueError, match="64×64, smaller than the patch of 65×65"):
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
    policy = LearnedPolicy.for_model(network, (8,))
    gfnet = gfnet_env.EarlyExitGFNet(network, policy)
    gfnet.save(tmp_path / "policy")
    return gfnet


def test_stage_3_trains_on_the_patches_of_a_policy_that_stays(assembled, sets, tmp_path):
    run = tmp_path / "run"
    config = ClassifierConfig.of(run=run, policy=tmp_path / "policy", epochs=1, device="cpu")
    network = train_classifier(config, sets)
    assert network.patch_size == 16
    loaded = gfnet_env.EarlyExitGFNet.load(run)
    for key, value in assembled.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[key], value), key
    before, after = assembled.model.state_dict(), loaded.model.state_dict()
    assert not torch.equal(
        before["local_encoder.blocks.0.0.weight"], after["local_encoder.blocks.0.0.weight"]
    )
    assert loaded.budgets
    assert loaded.thresholds != assembled.thresholds
    saved = json.loads((run / "results.json").read_text())
    assert list(saved["accuracy"]) == ["random", "learned", "target"]
    record = evaluate_policy(loaded.model, loaded.policy, sets["test"])
    assert saved["accuracy"]["learned"] == record.accuracy.round(6).tolist()
    assert loaded.model.trained_on.policy == str(tmp_path / "policy")


@pytest.fixture
def losses(tiny_network, tiny_images):
    """The loss of every image under a policy."""

    def found(policy):
        schedule = ClassifierSchedule(encoder_loss=0.5).resolved()
        objective = LookObjective(tiny_network, lambda epoch: policy, schedule)
        return objective(next(batches(tiny_images, 12)), tiny_images, 0)

    return found


@pytest.fixture
def expected_losses(tiny_network, tiny_images):
    """The loss of every image at each step, looking at the centre."""
    features, indices = LiveFeatures(tiny_network, tiny_images), np.arange(12)
    state = glance(features, indices)
    expected = []
    for encoder in (tiny_network.global_encoder, *[tiny_network.local_encoder] * 2):
        if expected:
            state = look(features, indices, Look.at(torch.zeros(12, 2)), state)
        both = (state.logits, encoder.head(state.vector))
        one, own = (cross_entropy(x, tiny_images.labels, reduction="none") for x in both)
        expected.append(one + 0.5 * own)
    return torch.stack(expected)


def test_the_objective_is_of_the_looks_that_the_policy_decides_on(losses, expected_losses):
    found = losses(CenterPolicy())
    assert found.requires_grad
    torch.testing.assert_close(found, expected_losses.mean(dim=0))
    assert not torch.allclose(found, losses(TrainingPatches(seed=0, epoch=0)))


class StopsSome(CenterPolicy):
    """Stops looking at every second image after the first look."""

    def __call__(self, observation, memory):
        count = len(observation["number"])
        number = observation["number"].squeeze(1)
        stop = (number == 1) & (torch.arange(count) % 2 == 1)
        return Look.at(torch.zeros(count, 2), stop=stop), memory


def test_the_loss_of_an_image_is_the_mean_over_its_own_steps(losses, expected_losses):
    found = losses(StopsSome())
    torch.testing.assert_close(found[::2], expected_losses[:, ::2].mean(dim=0))
    torch.testing.assert_close(found[1::2], expected_losses[:2, 1::2].mean(dim=0))


def test_stage_3_holds_out_what_stage_1_did(assembled, tmp_path):
    noise = np.random.default_rng(0)
    for name in map(str, range(10)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    trained_on = TrainingData(
        images=f"folder:{tmp_path / 'pictures'}", image_size=24, image_seed=3, fit="stretch"
    )
    assembled.model.trained_on = trained_on
    assembled.save(tmp_path / "policy")
    run = tmp_path / "run"
    network = train_classifier(ClassifierConfig.of(run=run, policy=tmp_path / "policy", epochs=1))
    for name in ("images", "image_size", "image_seed", "fit"):
        assert getattr(network.trained_on, name) == getattr(trained_on, name)
    assert json.loads((run / "config.json").read_text())["config"]["image_seed"] == 3


@pytest.mark.usefixtures("assembled")
def test_stage_3_keeps_its_network(sets, tmp_path):
    begun = {"run": tmp_path / "run", "policy": tmp_path / "policy", "epochs": 1}
    with pytest.raises(ValueError, match="patch_size is 16 in .*policy, not 20"):
        train_classifier(ClassifierConfig.of(**begun, patch_size=20), sets)
    # What is the library's default is refused as well where it was given.
    with pytest.raises(ValueError, match="focus_steps is 2 in .*policy, not 3"):
        train_classifier(ClassifierConfig.of(**begun, focus_steps=3), sets)
    for name, value in {"object_share": 0.5, "weights": "pretrained", "baseline": tmp_path}.items():
        with pytest.raises(ValueError, match=f"leave out {name}"):
            ClassifierConfig.of(**begun, **{name: value})
    missing = begun | {"policy": tmp_path / "nowhere"}
    with pytest.raises(FileNotFoundError, match="no folder"):
        train_classifier(ClassifierConfig.of(**missing), sets)
    assert not (tmp_path / "run").exists()
    train_classifier(ClassifierConfig.of(**begun, patch_size=16), sets)


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
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number"),
        ({"classifier_learning_rate": -1.0}, "classifier_learning_rate must be positive"),
        ({"crop_scale": (0.5, 0.1)}, r"crop_scale must be two rising .* not \(0.5, 0.1\)"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"momentum": 0.0}, "momentum must be positive"),
        ({"warmup": 1.0}, "warmup must be below 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"optimiser": "adam"}, "optimiser must be adamw or sgd, not 'adam'"),
        ({"precision": "half"}, "precision must be auto or float32 or bfloat16, not 'half'"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"average_decay": 1.0}, "average_decay must be below 1"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes must be at least 0"),
        ({"encoder_loss": -1.0}, "encoder_loss must be at least 0"),
        ({"object_share": 1.5}, r"object_share must be in \[0, 1\]"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"image_size": -1}, "image_size must be at least 1"),
        ({"image_seed": -1}, "image_seed must be at least 0"),
        ({"workers": -3}, "workers must be at least 0"),
        ({"memory_gib": -1}, "memory_gib must be at least 0"),
        ({"memory_gib": float("inf")}, "memory_gib must be a finite number"),
        ({"fit": "squash"}, "fit must be"),
        ({"aspect": "squash"}, "aspect must be stretch or pad"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"memory_size": 0}, "memory_size must be at least 1"),
        ({"epoch": 3}, "no setting 'epoch'; did you mean 'epochs'"),
        # What would silently change nothing.
        ({"where_loss": 5.0}, "where_loss changes nothing without windows=mined"),
        ({"where_scales": (1.0,)}, "where_scales changes nothing without windows=mined"),
        ({"windows": "mined"}, "object_share changes nothing without windows=random"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **change)


def test_there_are_images_of_two_classes_at_least(sets, tmp_path):
    fives = Subset(sets["train"], np.flatnonzero(sets["train"].labels == 5))
    none = Subset(sets["val"], np.arange(0))
    static = BaselineConfig.of(run=tmp_path / "run", resolutions=(16,))
    for train, config_of in (
        (train_classifier, config(tmp_path / "run")),
        (train_baselines, static),
    ):
        with pytest.raises(ValueError, match="all training images are of one class"):
            train(config_of, sets | {"train": fives})
        for split in ("train", "val", "test"):
            with pytest.raises(ValueError, match=f"the split {split} has no images"):
                train(config_of, sets | {split: none})
    assert not (tmp_path / "run").exists()


def test_schedules_are_filled_in_by_recipes_and_the_library():
    recipe = ClassifierSchedule(epochs=60, flip=True, average_decay=0.99)
    given = ClassifierSchedule(epochs=2, average_decay=0.0).with_defaults(recipe.given())
    found = given.resolved()
    assert (found.epochs, found.average_decay, found.flip) == (2, 0.0, True)
    assert found.learning_rate == DEFAULT_SCHEDULE.learning_rate
    assert ClassifierSchedule().resolved() == DEFAULT_SCHEDULE


def test_pictures_of_any_shape_are_trained_on_whole(tmp_path):
    noise = np.random.default_rng(0)
    sizes = ((113, 46), (46, 113), (300, 40), (97, 97))
    for split, name in itertools.product(("train", "val", "test"), "ab"):
        folder = tmp_path / "pictures" / split / name
        folder.mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    for aspect in ("stretch", "pad"):
        settings = config(
            tmp_path / aspect,
            images=f"folder:{tmp_path / 'pictures'}",
            patch_size=32,
            crop_scale=(0.5, 1.0),
            aspect=aspect,
        )
        network = train_classifier(settings)
        assert network.view.aspect == aspect
        assert network.trained_on.fit == "whole"
        assert network.trained_on.image_size is None
        assert settings.images.open(network, "test").sizes([2]).tolist() == [[300, 40]]


def test_other_processes_end_without_a_word_where_the_first_says_what_is_wrong(tmp_path):
    class Beside(Processes):
        """The second of two processes, of which the first has failed."""

        def total(self, values):
            return values + 1

    second = Beside(torch.device("cpu"), count=2, rank=1)
    with pytest.raises(SystemExit) as ended, open_run(config(tmp_path), second):
        pass
    assert ended.value.code == 1
