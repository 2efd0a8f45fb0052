import json
import re

import numpy as np
import pytest
import torch

from gfnet_env.evaluation import evaluate_static
from gfnet_env.images import ArrayImages, Subset, batches, load_images
from gfnet_env.models import StaticConfig, StaticNetwork
from gfnet_env.training import (
    BaselineConfig,
    ClassifierConfig,
    train_baselines,
    train_classifier,
)
from gfnet_env.training.baseline import StaticObjective
from gfnet_env.training.loss import cross_entropies

SPEC = "cluttered-digits:canvas=48,digit=20,pieces=2,scenes="


@pytest.fixture(scope="module")
def sets():
    return {
        split: load_images(f"{SPEC}{count}", split)
        for split, count in (("train", 96), ("val", 30), ("test", 30))
    }


class Unreadable(Subset):
    """All of a set, whose drive is unplugged once training begins."""

    def __init__(self, images):
        super().__init__(images, np.arange(len(images)))

    def prefetch(self, indices):
        raise OSError("unplugged")


def config(run, **changes):
    return BaselineConfig.of(run=run, epochs=2, learning_rate=3e-3, resolutions=(16, 48), **changes)


def test_networks_of_every_resolution_are_saved_with_their_figures(sets, tmp_path):
    networks = train_baselines(config(tmp_path / "run"), sets)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["resolution"] for row in results["static"]] == list(networks) == [16, 48]
    low, high = results["static"]
    # Convolutions grow with the pixels, the head does not.
    assert 8.9 * low["multiply_adds"] < high["multiply_adds"] < 9 * low["multiply_adds"]
    loaded = StaticNetwork.load(tmp_path / "run" / "48")
    assert high["accuracy"] == round(evaluate_static(loaded, sets["test"]).mean(), 6)
    images = sets["test"].overview(slice(8), 48)
    with torch.no_grad():
        assert torch.equal(loaded(images), networks[48](images))
    assert loaded.class_names == sets["test"].class_names


def test_training_learns(tmp_path):
    # Two flat colours: anything that learns at all tells them apart.
    pixels = np.zeros((64, 3, 32, 32), dtype=np.uint8)
    pixels[::2] = 200
    images = ArrayImages(pixels, np.arange(64) % 2)
    sets = dict.fromkeys(("train", "val", "test"), images)
    settings = BaselineConfig.of(run=tmp_path / "run", epochs=8, batch_size=32, resolutions=(16,))
    assert evaluate_static(train_baselines(settings, sets)[16], images).all()


def test_resolutions_go_up_to_that_of_the_images(tmp_path):
    images = ArrayImages(np.zeros((4, 3, 48, 64), dtype=np.uint8), np.arange(4) % 2)
    sets = dict.fromkeys(("train", "val", "test"), images)
    networks = train_baselines(BaselineConfig.of(run=tmp_path / "run", epochs=1), sets)
    assert list(networks) == [12, 24, 36, 48]
    alone = dict.fromkeys(("train", "val", "test"), ArrayImages(images[[0]], [0]))
    with pytest.raises(ValueError, match="one image is too few"):
        train_baselines(BaselineConfig.of(run=tmp_path / "alone", epochs=1), alone)


def test_a_resolution_gives_the_same_network_whatever_is_beside_it(sets, tmp_path):
    both = train_baselines(config(tmp_path / "both"), sets)
    alone = BaselineConfig.of(
        run=tmp_path / "alone", epochs=2, learning_rate=3e-3, resolutions=(48,)
    )
    one = train_baselines(alone, sets)
    for key, value in one[48].state_dict().items():
        assert torch.equal(value, both[48].state_dict()[key]), key


def test_frozen_parts_and_mirrored_images(sets, tmp_path):
    networks = train_baselines(
        config(tmp_path / "run", frozen=("blocks.0",), flip=True, classifier_learning_rate=0.01),
        sets,
    )
    torch.manual_seed(0)
    fresh = StaticNetwork(StaticConfig(encoder="compact", resolution=16, num_classes=10))
    trained = networks[16].state_dict()
    for key, value in fresh.state_dict().items():
        kept = key.startswith(("encoder.blocks.0", "encoder.mean", "encoder.std"))
        assert torch.equal(value, trained[key]) == kept, key
    with pytest.raises(ValueError, match=r"no part 'blocks\.7' to freeze; known: blocks"):
        train_baselines(config(tmp_path / "other", frozen=("blocks.7",)), sets)
    assert not (tmp_path / "other").exists()


def test_what_is_written_over_is_trained_anew(sets, tmp_path):
    run = tmp_path / "run"
    train_baselines(config(run), sets)
    (run / "policy" / "checkpoints").mkdir(parents=True)
    (run / "policy" / "checkpoints" / "3.pt").write_text("of another run")
    longer = BaselineConfig.of(run=run, epochs=3, resolutions=(16, 48), learning_rate=3e-3)
    # A kill within the first resolution.
    broken = {**sets, "train": Unreadable(sets["train"])}
    with pytest.raises(OSError, match="unplugged"):
        train_baselines(longer.replace(overwrite=True), broken)
    resumed = train_baselines(longer.replace(resume=True), sets)
    fresh = train_baselines(longer.replace(run=tmp_path / "fresh"), sets)
    for resolution, network in fresh.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, resumed[resolution].state_dict()[key])
    assert (run / "policy" / "checkpoints" / "3.pt").exists()


def test_stage_1_begins_with_static_networks(sets, tmp_path):
    statics = train_baselines(config(tmp_path / "static"), sets)
    settings = {"images": "", "patch_size": 16, "focus_steps": 1, "baseline": tmp_path / "static"}
    # At this rate nothing is learned, so that the beginning is still to be seen at the end.
    network = train_classifier(
        ClassifierConfig.of(run=tmp_path / "run", epochs=1, learning_rate=1e-12, **settings), sets
    )
    for encoder, resolution in ((network.global_encoder, 16), (network.local_encoder, 48)):
        begun = dict(statics[resolution].encoder.named_parameters())
        for name, value in encoder.named_parameters():
            torch.testing.assert_close(value, begun[name], atol=1e-6, rtol=0)
    pictures = tmp_path / "photos"
    pictures.mkdir()
    for static in (tmp_path / "static").glob("*/static.json"):
        saved = json.loads(static.read_text())
        del saved["sha256"]
        saved["trained_on"] |= {"images": f"folder:{pictures}", "image_seed": 3}
        static.write_text(json.dumps(saved))
    settings["images"] = f"folder:{pictures}"
    with pytest.raises(ValueError, match="by image_seed=3, so on images that image_seed=0"):
        train_classifier(ClassifierConfig.of(run=tmp_path / "other", **settings), sets)
    settings["patch_size"] = 24
    with pytest.raises(ValueError, match="networks of 16, 48 pixels and none of the patch size"):
        train_classifier(ClassifierConfig.of(run=tmp_path / "other", **settings), sets)
    settings["baseline"] = tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        train_classifier(ClassifierConfig.of(run=tmp_path / "other", **settings), sets)
    assert not (tmp_path / "other").exists()


def test_wrong_input(sets, tmp_path):
    too_high = BaselineConfig.of(run=tmp_path / "run", resolutions=(16, 64))
    with pytest.raises(ValueError, match="a resolution of 64 is above that of the images, 48"):
        train_baselines(too_high, sets)
    too_low = BaselineConfig.of(run=tmp_path / "run", encoder="vgg11", resolutions=(16,))
    with pytest.raises(ValueError, match="encoder 'vgg11' does not take 16×16 views"):
        train_baselines(too_low, sets)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="2 class names were given for 3 classes"):
        StaticConfig(encoder="compact", resolution=8, num_classes=3, class_names=("a", "b"))
    with pytest.raises(ValueError, match="resolutions must be at least 1, not 0"):
        BaselineConfig.of(run=tmp_path, resolutions=(0,))
    with pytest.raises(ValueError, match="resolution must be at least 1, not 0"):
        StaticConfig(encoder="compact", resolution=0, num_classes=2)
    network = StaticNetwork(StaticConfig(encoder="compact", resolution=16, num_classes=2))
    with pytest.raises(ValueError, match="views must be"):
        network(torch.zeros(1, 3, 20, 20))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        StaticNetwork.load(tmp_path / "missing")


@pytest.mark.parametrize(("weighted", "expected"), [(False, 0.9), (True, 0.5)])
def test_classes_may_count_the_same(tmp_path, capsys, weighted, expected):
    # Six pictures, each nine times of one class and once of the other.
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), dtype=np.uint8)
    images = ArrayImages(np.tile(pixels, (10, 1, 1, 1)), np.repeat([0, 1], (54, 6)))
    sets = dict.fromkeys(("train", "val", "test"), images)
    settings = BaselineConfig.of(
        run=tmp_path / "run",
        epochs=40,
        batch_size=60,
        encoder="compact:widths=[8,16],strides=[2,2]",
        learning_rate=1e-2,
        resolutions=(16,),
        class_weights=weighted,
    )
    network = train_baselines(settings, sets)[16]
    with torch.no_grad():
        believed = network(images.overview(slice(6), 16)).softmax(dim=1)[:, 0]
    assert believed.tolist() == pytest.approx([expected] * 6, abs=0.05)
    if not weighted:
        # All are taken for the larger class; validation counts as the loss does.
        assert capsys.readouterr().out.count("accuracy static 0.900") > 20


def test_classes_may_count_the_same_in_validation(tmp_path, capsys):
    black, white = (np.full((3, 16, 16), value, dtype=np.uint8) for value in (0, 255))
    train = ArrayImages(np.stack([black, white] * 10), [0, 1] * 10)
    # Nine of ten are told right, but only half of the classes.
    val = ArrayImages(np.stack([black] * 10), [0] * 9 + [1])
    sets = {"train": train, "val": val, "test": val}
    settings = BaselineConfig.of(
        run=tmp_path / "run", epochs=40, batch_size=20, resolutions=(16,), class_weights=True
    )
    train_baselines(settings, sets)
    assert "epoch 40: accuracy static 0.500" in capsys.readouterr().out


@pytest.mark.parametrize("average_decay", [0.0, 0.5])
def test_the_best_epoch_may_be_kept(tmp_path, capsys, average_decay):
    # What is learned on one split is wrong on the other, so it gets worse and worse.
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(40) % 2
    sets = {"train": ArrayImages(pixels, labels), "val": ArrayImages(pixels, 1 - labels)}
    sets["test"] = sets["val"]
    reached = {}
    for best in (False, True):
        settings = BaselineConfig.of(
            run=tmp_path / str(best),
            epochs=12,
            batch_size=20,
            learning_rate=1e-4,
            resolutions=(16,),
            average_decay=average_decay,
            load_best_model_at_end=best,
        )
        network = train_baselines(settings, sets)[16]
        lines = [line for line in capsys.readouterr().out.splitlines() if "static" in line]
        epochs = [float(line.split()[-1]) for line in lines]
        reached[best] = float(evaluate_static(network, sets["val"]).mean())
        assert reached[best] == pytest.approx(max(epochs) if best else epochs[-1], abs=1e-3)
    assert reached[True] > reached[False]


def test_training_may_end_early(tmp_path, capsys):
    # As above: accuracy on val is best before anything was learned.
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(40) % 2
    sets = {"train": ArrayImages(pixels, labels), "val": ArrayImages(pixels, 1 - labels)}
    settings = BaselineConfig.of(
        run=tmp_path / "run",
        epochs=12,
        batch_size=20,
        learning_rate=1e-4,
        resolutions=(16,),
        early_stopping_patience=3,
    )
    train_baselines(settings, sets | {"test": sets["val"]})
    out = capsys.readouterr().out
    values = [float(found) for found in re.findall(r"accuracy static ([\d.]+)", out)]
    best = values.index(max(values))
    assert len(values) == best + 4 < 12
    assert f"ended after {len(values)} epochs, since accuracy on val rose no more" in out


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_may_be_smoothed(smoothing):
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.0, 3.0]]), torch.tensor([0, 1])
    wanted = torch.full((2, 3), smoothing / 3)
    wanted[torch.arange(2), labels] += 1 - smoothing
    expected = -(wanted * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(cross_entropies(logits, labels, smoothing), expected)
    network = StaticNetwork(StaticConfig(encoder="compact", resolution=16, num_classes=3)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), np.uint8)
    images = ArrayImages(pixels, [0, 1])
    (batch,) = batches(images, 2)
    with torch.no_grad():
        expected = cross_entropies(network(images.overview(slice(2), 16)), batch.labels, smoothing)
        found = StaticObjective(network, smoothing)(batch, images, 0)
    torch.testing.assert_close(found, expected)
