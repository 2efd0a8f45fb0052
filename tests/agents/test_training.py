import hashlib
import json

import pytest
import torch
from PIL import Image

import gfnet_env
from gfnet_agents import PolicyConfig, train_policy
from gfnet_env import EarlyExitGFNet
from gfnet_env.data import load_images
from gfnet_env.policies import load_policy


@pytest.fixture
def sets():
    return {
        split: load_images("cluttered-digits:scenes=30", split)
        for split in ("train", "val", "test")
    }


def config(run, **changes):
    values = {"run": run, "timesteps": 96, "num_envs": 8, "oracle_images": 2, "device": "cpu"}
    return PolicyConfig(**values | changes)


def digest(network):
    parts = [key.encode() + value.numpy().tobytes() for key, value in network.state_dict().items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_run_is_complete_and_leaves_the_network_alone(sets, network, tmp_path):
    before = digest(network)
    run = tmp_path / "run"
    gfnet = train_policy(config(run), network=network, image_sets=sets)
    assert digest(network) == before

    results = json.loads((run / "results.json").read_text())
    assert results["split"] == "test"
    assert results["images"] == 30
    assert results["environment_steps"] >= 96
    assert len(results["multiply_adds"]) == 4
    policies = results["policies"]
    assert list(policies) == ["random", "center", "learned", "target", "oracle"]
    assert [policy["images"] for policy in policies.values()] == [30, 30, 30, 30, 2]
    for policy in policies.values():
        assert len(policy["accuracy"]) == len(policy["label_confidence"]) == 4
        assert len(policy["share_of_gain"]) == 3
    for point in results["early_exit"]:
        assert sum(point["exit_share"]) == pytest.approx(1, abs=1e-5)
        mean = sum(
            s * m for s, m in zip(point["exit_share"], results["multiply_adds"], strict=True)
        )
        assert point["multiply_adds"] == pytest.approx(mean, rel=1e-4)

    for picture in ("accuracy.png", "patches.png"):
        with Image.open(run / picture) as drawn:
            assert drawn.size[0] > 500
    assert list((run / "tensorboard").iterdir())
    loaded = EarlyExitGFNet.load(run)
    images = sets["test"][:]
    one, other = gfnet(images), loaded(images)
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.exit_step, other.exit_step)


def test_the_same_seed_gives_the_same_results(sets, network, tmp_path):
    results = []
    for name in ("one", "again"):
        train_policy(config(tmp_path / name), network=network, image_sets=sets)
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
        del results[-1]["seconds"]
    assert results[0] == results[1]


def test_a_run_goes_on_where_another_ended(sets, network, tmp_path):
    first = config(tmp_path / "first", exit_confidence=0.8, reward="random-contrast")
    train_policy(first, network=network, image_sets=sets)
    second = PolicyConfig(
        run=tmp_path / "second", continue_from=tmp_path / "first", timesteps=96, oracle_images=0
    )
    train_policy(second, image_sets=sets)
    # One update on an agent that had forgotten everything would not stay this close.
    before, after = (
        torch.cat([value.flatten() for value in load_policy(tmp_path / name).parameters()])
        for name in ("first", "second")
    )
    assert 0 < (after - before).norm() < 0.2 * before.norm()
    saved = json.loads((tmp_path / "second" / "config.json").read_text())["config"]
    assert saved["exit_confidence"] == 0.8
    assert saved["reward"] == "random-contrast"
    assert saved["num_envs"] == 8
    assert (
        "oracle" not in json.loads((tmp_path / "second" / "results.json").read_text())["policies"]
    )


def test_a_run_that_goes_on_keeps_its_problem(sets, network, tmp_path):
    train_policy(config(tmp_path / "first"), network=network, image_sets=sets)
    other = config(tmp_path / "second", continue_from=tmp_path / "first", exit_confidence=0.5)
    with pytest.raises(ValueError, match="exit_confidence is 0.9 in .*first, not 0.5"):
        train_policy(other, image_sets=sets)
    network.save(tmp_path / "stage1")
    with pytest.raises(FileNotFoundError, match=r"no agent\.zip in .*stage1"):
        train_policy(config(tmp_path / "x", continue_from=tmp_path / "stage1"), image_sets=sets)


def test_other_algorithms_learn_and_go_on_too(sets, network, tmp_path, capsys):
    few = {"oracle_images": 0, "algorithm": "dqn", "grid": 3}
    few["settings"] = ("learning_starts=16", "batch_size=16", "target_update_interval=8")
    gfnet = train_policy(config(tmp_path / "first", **few), network=network, image_sets=sets)
    said = " ".join(capsys.readouterr().out.split())
    assert "MiB for 96 steps" in said
    assert gfnet.policy.config["output"] == "grid"
    second = PolicyConfig(
        run=tmp_path / "second",
        continue_from=tmp_path / "first",
        timesteps=32,
        oracle_images=0,
        settings=few["settings"],
    )
    train_policy(second, image_sets=sets)
    saved = json.loads((tmp_path / "second" / "config.json").read_text())["config"]
    assert (saved["algorithm"], saved["actions"], saved["grid"]) == ("dqn", None, 3)
    assert load_policy(tmp_path / "second").config["grid"] == 3


def test_no_file_says_what_is_imported(sets, network, tmp_path):
    run = tmp_path / "first"
    train_policy(config(run, oracle_images=0), network=network, image_sets=sets)
    saved = json.loads((run / "config.json").read_text())
    saved["config"]["algorithm"] = "evil:Algorithm"
    (run / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="learned by 'evil:Algorithm'.* name the algorithm your"):
        train_policy(config(tmp_path / "second", continue_from=run), image_sets=sets)


def test_mistakes_are_found_before_anything_is_written(sets, network, tiny_network, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="network knows 5 classes, the images have 10"):
        train_policy(config(run), network=tiny_network, image_sets=sets)
    with pytest.raises(FileNotFoundError, match="no folder"):
        train_policy(config(run, network=tmp_path / "nowhere"), image_sets=sets)
    small = dict.fromkeys(sets, gfnet_env.ArrayImages(torch.zeros(5, 3, 8, 8).byte(), range(5)))
    with pytest.raises(ValueError, match="8×8 are smaller than the patch of 32×32"):
        train_policy(config(run), network=network, image_sets=small)
    with pytest.raises(ValueError, match="unknown algorithm 'chance'"):
        train_policy(config(run, algorithm="chance"), image_sets=sets)
    for wrong, message in (
        (
            {"algorithm": "maskable-ppo", "actions": "continuous"},
            "maskable-ppo does not take continuous actions",
        ),
        ({"algorithm": "sac", "clip_range": 0.2}, "sac has no clip_range"),
        ({"settings": ("luck=1",)}, "ppo has no setting luck; it has batch_size"),
    ):
        with pytest.raises(ValueError, match=message):
            train_policy(config(run, **wrong), network=network, image_sets=sets)
    assert not run.exists()
    run.mkdir()
    (run / "results.json").write_text("precious")
    with pytest.raises(FileExistsError, match="already exists"):
        train_policy(config(run), image_sets=sets)
    assert (run / "results.json").read_text() == "precious"


def test_an_interrupted_run_ends_as_one_that_was_not(sets, network, tmp_path, capsys):
    changes = {"timesteps": 384, "oracle_images": 0, "checkpoint_minutes": 0.0}
    # Every episode as long as any other, so that it is known when images are read.
    changes["exit_confidence"] = None
    whole, run = tmp_path / "whole", tmp_path / "run"
    train_policy(config(whole, **changes), network=network, image_sets=sets)

    images = load_images("cluttered-digits:scenes=30", "train")
    # Three looks at the first, the glances at all images, the first reset, and four in each update
    # but the third.
    read, left = images._read, iter(range(5 + 2 * 4 + 2))

    def interrupt(indices):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return read(indices)

    images._read = interrupt
    with pytest.raises(KeyboardInterrupt):
        train_policy(config(run, **changes), network=network, image_sets=sets | {"train": images})
    assert sorted(path.stem for path in (run / "checkpoints").glob("*.pt")) == [
        *("000000096", "000000192")
    ]
    with pytest.raises(ValueError, match="begun with timesteps=384, not 96"):
        train_policy(config(run, resume=True), network=network, image_sets=sets)

    train_policy(config(run, **changes, resume=True), network=network, image_sets=sets)
    weights = [folder / "policy.safetensors" for folder in (whole, run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    results = [json.loads((folder / "results.json").read_text()) for folder in (whole, run)]
    assert results[0]["environment_steps"] == results[1]["environment_steps"] == 384
    assert results[0]["policies"] == results[1]["policies"]

    capsys.readouterr()
    train_policy(config(run, **changes, resume=True), network=network, image_sets=sets)
    assert "is complete; there is nothing to resume" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "change",
    [
        {"timesteps": 0},
        {"grid": 0},
        {"replay_gib": 0.0},
        {"oracle_images": -1},
        {"checkpoint_minutes": -1.0},
        {"reward": "praise"},
        {"learn_from": "test"},
    ],
)
def test_wrong_settings_are_named(tmp_path, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        config(tmp_path, **change)


def test_a_policy_is_learned_from_cached_features(sets, network, tmp_path):
    changes = {"features": "cached", "cells": 3, "cache": tmp_path / "features"}
    changes |= {"oracle_images": 0}
    first, again = tmp_path / "first", tmp_path / "again"
    for run in (first, again):
        train_policy(config(run, **changes), network=network, image_sets=sets)
    assert len(list((tmp_path / "features").iterdir())) == 1
    results = [json.loads((run / "results.json").read_text()) for run in (first, again)]
    assert results[0]["environment_steps"] == results[1]["environment_steps"]
    one, other = (
        torch.cat([value.flatten() for value in load_policy(run).parameters()])
        for run in (first, again)
    )
    # The second run took from the store what the first had computed, in batches of other sizes.
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    saved = json.loads((first / "config.json").read_text())["config"]
    assert saved["features"] == "cached"
    assert saved["cells"] == 3
    with pytest.raises(ValueError, match="over the limit of 0.001 GiB"):
        train_policy(
            config(tmp_path / "x", **changes, cache_gib=0.001), network=network, image_sets=sets
        )
