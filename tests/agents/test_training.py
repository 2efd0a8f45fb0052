import dataclasses
import hashlib
import importlib
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gfnet_env
from gfnet_agents.config import DEFAULT, PolicyConfig, PolicySchedule, complete
from gfnet_agents.curve import Curve
from gfnet_agents.training import _build, train_policy
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.benchmarks.results import PolicyResults
from gfnet_env.console import PlainConsole
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import load_images
from gfnet_env.matching import ImageOptions
from gfnet_env.policies import HeatPolicy, load_policy
from gfnet_env.zoo import pretrained

EXAMPLES = Path(__file__).parents[2] / "experiments" / "examples"
LONGER = {"timesteps": 384, "oracle_images": 0}
REINFORCE = "reinforce:Reinforce:learning_rate=1e-3"


@pytest.fixture(scope="module")
def sets():
    return {
        split: load_images("cluttered-digits:scenes=30", split)
        for split in ("train", "val", "test")
    }


@pytest.fixture
def reinforce(monkeypatch):
    """The example's module can be imported."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("reinforce")


def config(run, **changes):
    values = {"run": run, "timesteps": 96, "num_envs": 8, "oracle_images": 2, "device": "cpu"}
    values["curve_images"] = 10
    return PolicyConfig.of(**values | changes)


@pytest.fixture(scope="module")
def done(sets, tmp_path_factory):
    """A complete run, and what it returned."""
    run = tmp_path_factory.mktemp("done") / "run"
    network = pretrained("cluttered-digits").model
    before = digest(network)
    gfnet = train_policy(config(run), model=network, image_sets=sets)
    assert digest(network) == before, "the network was changed"
    return run, gfnet


@pytest.fixture(scope="module")
def longer(sets, tmp_path_factory):
    """A run of four updates."""
    run = tmp_path_factory.mktemp("longer") / "run"
    train_policy(config(run, **LONGER), image_sets=sets)
    return run


def saved(run, name="config.json"):
    content = json.loads((run / name).read_text())
    return content["config"] if name == "config.json" else content


def weights(run):
    return torch.cat([value.flatten() for value in load_policy(run).parameters()])


def digest(network):
    parts = [key.encode() + value.numpy().tobytes() for key, value in network.state_dict().items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_run_is_complete(done, sets):
    run, gfnet = done
    results = PolicyResults.from_json(saved(run, "results.json"))
    assert (results.split, results.images) == ("test", 30)
    assert results.environment_steps >= 96
    assert list(results.multiply_adds) == gfnet.multiply_adds
    assert list(results.policies) == ["random", "center", "learned", "target", "oracle"]
    assert [policy.images for policy in results.policies.values()] == [30, 30, 30, 30, 2]
    for policy in results.policies.values():
        assert len(policy.accuracy) == len(policy.label_confidence) == 4
    for point in results.early_exit:
        assert sum(point.exit_share) == pytest.approx(1, abs=1e-5)
        mean = sum(s * m for s, m in zip(point.exit_share, results.multiply_adds, strict=True))
        assert point.multiply_adds == pytest.approx(mean, rel=1e-4)
    curve = Curve.load(run)
    assert curve.images == 10
    assert [curve.curve[0].steps, curve.curve[-1].steps] == [0, results.environment_steps]

    for picture in ("accuracy.png", "patches.png"):
        with Image.open(run / picture) as drawn:
            assert drawn.size[0] > 500
    assert list((run / "tensorboard").iterdir())
    loaded = EarlyExitGFNet.load(run)
    one, other = gfnet(sets["test"]), loaded(sets["test"])
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.exit_step, other.exit_step)


def test_the_same_seed_gives_the_same_results(done, sets, network, tmp_path, monkeypatch):
    # Pictures that are logged change nothing.
    monkeypatch.setattr("gfnet_agents.training._FIRST_LOGGED", 0.0)
    train_policy(config(tmp_path / "again"), model=network, image_sets=sets)
    events = EventAccumulator(str(tmp_path / "again" / "tensorboard"))
    events.Reload()
    assert len(events.Images("looks")) == 1
    results = [saved(run, "results.json") for run in (done[0], tmp_path / "again")]
    for each in results:
        del each["seconds"]
    assert results[0] == results[1]


def test_what_is_not_given_is_the_default(sets, network, tmp_path):
    run = tmp_path / "run"
    train_policy(config(run, epochs=1, timesteps=None, oracle_images=0), image_sets=sets)
    begun = saved(run)
    given = DEFAULT.given() | {"epochs": 1, "timesteps": None, "num_envs": 8}
    assert {name: begun[name] for name in given} == given
    assert begun["actions"] == "continuous"
    assert saved(run, "results.json")["environment_steps"] == 96


def test_learning_may_begin_from_the_map(sets, tmp_path):
    torch.manual_seed(0)
    model = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=10, where_scales=(1.0,), glance_size=64
    ).eval()
    options = {"begin_from": "heat", "oracle_images": 0, "algorithm": "ppo:learning_rate=1e-9"}
    gfnet = train_policy(config(tmp_path / "run", **options), model=model, image_sets=sets)
    begun = saved(tmp_path / "run")
    assert (begun["actions"], begun["observation"]) == ("peak:reach=1.0", "peak")
    results = PolicyResults.from_json(saved(tmp_path / "run", "results.json"))
    assert list(results.policies) == ["random", "center", "heat", "learned", "target"]
    # What has hardly learned looks where the map says, but for what its first weights emit.
    heat, learned = (
        evaluate_policy(model, policy, sets["test"]).locations[:, 0]
        for policy in (HeatPolicy(), gfnet.policy)
    )
    assert np.abs(heat - learned).max() < 0.1
    assert np.abs(heat - learned).max() > 0
    with pytest.raises(ValueError, match="corrects the map, by actions 'peak', not 'grid'"):
        train_policy(config(tmp_path / "other", **options, actions="grid"), image_sets=sets)
    with pytest.raises(ValueError, match="begin_from must be scratch or heat, not 'map'"):
        config(tmp_path / "other", begin_from="map")


def test_a_run_that_goes_on_takes_over_what_is_not_given(sets, network, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    changes = {"exits": "confidence:threshold=0.8", "reward": "random-contrast", "timesteps": 64}
    changes["algorithm"] = "ppo:n_steps=4,batch_size=32"
    train_policy(config(first, **changes), model=network, image_sets=sets)
    going_on = PolicyConfig.of(run=second, continue_from=first, oracle_images=0, device="cpu")
    train_policy(going_on, image_sets=sets)
    # One update on an agent that had forgotten everything would not stay this close.
    before, after = weights(first), weights(second)
    assert 0 < (after - before).norm() < 0.2 * before.norm()
    begun = saved(second)
    assert {name: begun[name] for name in changes} == changes
    assert begun["num_envs"] == 8
    assert "oracle" not in saved(second, "results.json")["policies"]


@pytest.mark.parametrize(
    ("name", "value"), [("reward", ["x"]), ("num_envs", "many"), ("image_size", {}), ("fit", 3)]
)
def test_a_damaged_configuration_of_the_run_to_go_on_from_is_named(tmp_path, name, value):
    values = {"config": {"algorithm": "ppo", name: value}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"configuration of {tmp_path} is damaged: {name} must be"):
        complete(PolicyConfig(continue_from=tmp_path))


@pytest.mark.parametrize("name", ["images", "reward", "observation"])
def test_a_part_that_no_run_can_have_is_named_with_the_run(tmp_path, name):
    values = {"config": {"algorithm": "ppo", name: "../.."}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"{name} of the run {tmp_path}: unknown"):
        complete(PolicyConfig(continue_from=tmp_path))


def test_a_curriculum_changes_what_the_weights_do_not_depend_on(sets, network, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train_policy(config(first, sampling="all", oracle_images=0), model=network, image_sets=sets)
    assert saved(first)["sampling"] == "all"
    changes = {
        "sampling": "uncertain",
        "reward": "cross-entropy-gain",
        "look_cost": 0.01,
        "exits": "never",
        "images": "cluttered-digits:scenes=20",
        "num_envs": 4,
        "focus_steps": 2,
        "epochs": 2,
        "algorithm": "ppo:learning_rate=1e-4,n_steps=4,batch_size=8",
    }
    going_on = {"run": second, "continue_from": first, "oracle_images": 0, "device": "cpu"}
    train_policy(PolicyConfig.of(**going_on, **changes))
    begun = saved(second)
    assert {name: begun[name] for name in changes} == changes
    assert begun["timesteps"] is None
    assert saved(second, "results.json")["environment_steps"] == 2 * 20 * 2
    assert not torch.equal(weights(second), weights(first))


def test_a_run_that_goes_on_keeps_what_its_weights_are_made_for(sets, network, tmp_path):
    first = tmp_path / "first"
    changes = {"oracle_images": 0, "actions": "grid:cells=3"}
    train_policy(config(first, **changes), model=network, image_sets=sets)
    for change, message in (
        ({"algorithm": "a2c"}, "algorithm is ppo in .*first, not a2c"),
        ({"actions": "grid"}, "actions is grid:cells=3 in .*first, not grid"),
        ({"observation": "plain"}, "observation is maps in .*first, not plain"),
    ):
        other = PolicyConfig.of(run=tmp_path / "x", continue_from=first, **change)
        with pytest.raises(ValueError, match=message):
            train_policy(other, image_sets=sets)
    network.save(tmp_path / "stage1")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*stage1"):
        train_policy(config(tmp_path / "x", continue_from=tmp_path / "stage1"), image_sets=sets)
    (first / "agent.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"no agent\.zip in .*first"):
        train_policy(PolicyConfig.of(run=tmp_path / "x", continue_from=first), image_sets=sets)
    assert not (tmp_path / "x").exists()


def test_a_run_of_0_1_can_be_continued(sets, network, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    few = "dqn:learning_starts=16,batch_size=16,target_update_interval=8"
    changes = {"algorithm": few, "actions": "grid:cells=3", "oracle_images": 0}
    gfnet = train_policy(config(first, **changes), model=network, image_sets=sets)
    assert "MiB for 96 steps" in " ".join(capsys.readouterr().out.split())
    assert gfnet.policy.config["actions"] == "grid:cells=3"
    content = json.loads((first / "config.json").read_text())
    old = {"algorithm": "dqn", "actions": None, "grid": 3, "exit_confidence": None}
    old |= {"settings": few.removeprefix("dqn:").split(","), "policy_rate": None}
    old |= {"timesteps": 32, "epochs": None, "num_envs": 8, "reward": "sparse", "sampling": "all"}
    (first / "config.json").write_text(json.dumps(content | {"config": old}))
    train_policy(PolicyConfig.of(run=second, continue_from=first, oracle_images=0), image_sets=sets)
    begun = saved(second)
    assert (begun["algorithm"], begun["actions"]) == (few, "grid:cells=3")
    assert (begun["exits"], begun["reward"], begun["timesteps"]) == ("never", "sparse", 32)
    assert load_policy(second).config["actions"] == "grid:cells=3"


@pytest.mark.parametrize("name", ["algorithm", "actions", "reward", "exits"])
def test_no_file_says_what_is_imported(name, sets, network, tmp_path):
    run = tmp_path / "first"
    run.mkdir()
    (run / "config.json").write_text(
        json.dumps({"config": DEFAULT.given() | {"actions": "continuous", name: "evil:Part"}})
    )
    with pytest.raises(ValueError, match="in the module 'evil', which no file may import"):
        train_policy(config(tmp_path / "second", continue_from=run), image_sets=sets)


def test_mistakes_are_found_before_anything_is_written(sets, network, tiny_network, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="knows 5 classes, the images have 10"):
        train_policy(config(run), model=tiny_network, image_sets=sets)
    with pytest.raises(FileNotFoundError, match="no folder"):
        train_policy(config(run, network=tmp_path / "nowhere"), image_sets=sets)
    small = dict.fromkeys(sets, gfnet_env.ArrayImages(torch.zeros(5, 3, 8, 8).byte(), range(5)))
    with pytest.raises(ValueError, match="8×8.* smaller than the patch of 32×32"):
        train_policy(config(run), model=network, image_sets=small)
    for wrong, message in (
        ({"algorithm": "chance"}, "unknown learner 'chance'"),
        (
            {"algorithm": "maskable-ppo", "actions": "zoom"},
            "'maskable-ppo' does not take zoom actions",
        ),
        ({"algorithm": "sac:clip_range=0.2"}, "has no parameter 'clip_range'"),
        ({"algorithm": "sac:use_sde=true"}, "could not be saved: .* explores by use_sde"),
        ({"algorithm": "ppo:n_steps=0"}, "refuses its settings"),
        ({"reward": "praise"}, "unknown reward 'praise'"),
        ({"exits": "confidence:threshold=2"}, r"in \[0, 1\]"),
        ({"observation": "smells"}, "unknown observation 'smells'"),
        ({"focus_steps": 4}, "focus_steps must be in 1..3"),
    ):
        with pytest.raises(ValueError, match=message):
            train_policy(config(run, **wrong), model=network, image_sets=sets)
    assert not run.exists()
    run.mkdir()
    (run / "results.json").write_text("precious")
    with pytest.raises(FileExistsError, match="already exists"):
        train_policy(config(run), image_sets=sets)
    assert (run / "results.json").read_text() == "precious"


@pytest.mark.parametrize("algorithm", ["ppo", REINFORCE])
@pytest.mark.usefixtures("reinforce")
def test_an_interrupted_run_ends_as_one_that_was_not(
    algorithm, longer, sets, network, tmp_path, capsys, monkeypatch
):
    changes = LONGER | {"checkpoint_minutes": 0.0, "algorithm": algorithm}
    whole, run = longer, tmp_path / "run"
    if algorithm != "ppo":
        whole = tmp_path / "whole"
        train_policy(config(whole, **changes), model=network, image_sets=sets)

    # Somewhere in the third of four updates, or for REINFORCE of sixteen.
    step, left = gfnet_env.env.vector.GlanceFocusVectorEnv.step, iter(range(28))

    def interrupt(env, actions):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(env, actions)

    with monkeypatch.context() as patch:
        patch.setattr(gfnet_env.env.vector.GlanceFocusVectorEnv, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_policy(config(run, **changes), model=network, image_sets=sets)
    assert len(list((run / "checkpoints").glob("*.pt"))) == 2
    with pytest.raises(ValueError, match="begun with timesteps=384, not 96"):
        train_policy(
            config(run, **changes | {"timesteps": 96}, resume=True), model=network, image_sets=sets
        )

    train_policy(config(run, **changes, resume=True), model=network, image_sets=sets)
    files = [folder / "policy.safetensors" for folder in (whole, run)]
    assert files[0].read_bytes() == files[1].read_bytes()
    results = [saved(folder, "results.json") for folder in (whole, run)]
    assert results[0]["environment_steps"] == results[1]["environment_steps"] == 384
    assert results[0]["policies"] == results[1]["policies"]
    assert Curve.load(whole) == Curve.load(run)

    capsys.readouterr()
    train_policy(config(run, **changes, resume=True), model=network, image_sets=sets)
    assert "is complete; there is nothing to resume" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("where", ["learning", "comparing"])
def test_a_policy_that_was_interrupted_loses_nothing(
    where, longer, sets, network, tmp_path, monkeypatch
):
    """Learning leaves a checkpoint when asked to end, and one at its end."""
    run = tmp_path / "run"
    step, steps = GlanceFocusVectorEnv.step, iter(range(20))

    def asked(env, actions):
        if next(steps, None) == 19:
            signal.raise_signal(signal.SIGINT)
        return step(env, actions)

    with monkeypatch.context() as patch:
        if where == "learning":
            patch.setattr(GlanceFocusVectorEnv, "step", asked)
        else:
            patch.setattr("gfnet_agents.training.record_policies", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_policy(config(run, **LONGER), model=network, image_sets=sets)
    counted = []

    def count(env, actions):
        counted.append(1)
        return step(env, actions)

    with monkeypatch.context() as patch:
        patch.setattr(GlanceFocusVectorEnv, "step", count)
        train_policy(config(run, **LONGER, resume=True), model=network, image_sets=sets)
    assert weights(run).equal(weights(longer))
    # Eight environments.
    assert len(counted) < 384 / 8 - 10 if where == "learning" else not counted


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_run_that_continues_itself_does_so_once(done, sets, tmp_path, monkeypatch):
    """Interrupted at its end, it has replaced what it began from."""
    first, other = shutil.copytree(done[0], tmp_path / "first"), tmp_path / "other"
    going_on = {"continue_from": first, "oracle_images": 0, "device": "cpu", "curve_points": 0}
    train_policy(PolicyConfig.of(run=other, **going_on), image_sets=sets)
    with monkeypatch.context() as patch:
        patch.setattr("gfnet_agents.training.record_policies", interrupted)
        with pytest.raises(KeyboardInterrupt, match="same command with --resume"):
            train_policy(PolicyConfig.of(run=first, overwrite=True, **going_on), image_sets=sets)
    train_policy(PolicyConfig.of(run=first, resume=True, **going_on), image_sets=sets)
    assert weights(first).equal(weights(other))
    # Each step is logged once.
    events = EventAccumulator(str(first / "tensorboard"))
    events.Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag


def test_runs_that_begin_together_have_folders_of_their_own():
    one, other = (complete(PolicyConfig()).run for _ in range(2))
    assert one != other


def test_reinforce_goes_on_from_another_run(sets, network, tmp_path, reinforce, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    changes = {"algorithm": REINFORCE, "actions": "zoom", "oracle_images": 0, "timesteps": 100}
    train_policy(config(first, **changes), model=network, image_sets=sets)
    assert "learned from 120 looks: 100, rounded up to whole updates" in capsys.readouterr().out
    train_policy(PolicyConfig.of(run=second, continue_from=first, oracle_images=0), image_sets=sets)
    before, after = weights(first), weights(second)
    assert 0 < (after - before).norm() < 0.2 * before.norm()
    with pytest.raises(ValueError, match="must be positive"):
        train_policy(config(tmp_path / "x", algorithm="reinforce:Reinforce:deviation=0"))
    with pytest.raises(ValueError, match="no parameter 'rate'; it has :learning_rate=0.002,devia"):
        train_policy(config(tmp_path / "x", algorithm="reinforce:Reinforce:rate=0"))
    with pytest.raises(ValueError, match="does not take grid"):
        train_policy(config(tmp_path / "x", algorithm="reinforce:Reinforce", actions="grid"))


def test_reinforce_finds_what_is_rewarded(tiny_network, tiny_images, reinforce):
    place = torch.tensor([0.5, -0.5])
    env = gfnet_env.env.vector.GlanceFocusVectorEnv(
        16,
        model=tiny_network,
        images=tiny_images,
        autoreset_mode="SameStep",
        reward=lambda transition: -(transition.after.location - place).square().sum(dim=1),
    )
    learner = reinforce.Reinforce(env, seed=0, device=torch.device("cpu"), timesteps=120 * 32)
    learner.learn(lambda: None)
    found = EarlyExitGFNet(tiny_network, learner.policy())(tiny_images)
    assert (found.locations - place).abs().max() < 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": 0}, "timesteps must be at least 1"),
        ({"num_envs": 0}, "num_envs"),
        ({"replay_gib": 0.0}, "replay_gib must be positive"),
        ({"look_cost": float("nan")}, "look_cost must be a finite number"),
        ({"oracle_images": -1}, "oracle_images"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes"),
        ({"learn_from": "test"}, "learn_from must be train or val"),
        ({"sampling": "some"}, "sampling must be all or uncertain"),
        ({"epochs": 2}, "give timesteps or epochs, not both"),
        ({"run": None, "resume": True}, "give the run to resume"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(**{"run": tmp_path} | change)


def test_one_layer_says_how_long_to_learn():
    recipe = {"epochs": 15, "num_envs": 256}
    for given, expected in (
        ({}, (None, 15)),
        ({"timesteps": 9}, (9, None)),
        ({"epochs": 2}, (None, 2)),
    ):
        schedule = PolicySchedule(**given).with_defaults(recipe, DEFAULT.given())
        assert (schedule.timesteps, schedule.epochs) == expected
        assert (schedule.num_envs, schedule.reward) == (256, "confidence-gain")
        whole = PolicyConfig.of(**given).with_defaults(recipe, DEFAULT.given()).schedule
        assert whole == schedule
    assert PolicySchedule().with_defaults(DEFAULT.given()).timesteps == 56_000


@pytest.mark.parametrize(
    ("changes", "full"),
    [
        ({}, True),
        ({"timesteps": 59}, False),
        ({"glance_gib": 0.0}, False),
        ({"glance_gib": 0.0, "features": "cached"}, True),
        ({"sampling": "uncertain"}, False),
    ],
)
def test_glances_come_first_where_nearly_all_are_needed(changes, full, sets, network, tmp_path):
    assert len(sets["train"]) == 30
    values = {"timesteps": 60, "cells": 3, "cache": tmp_path / "features", **changes}
    chosen = complete(config(tmp_path / "run", **values))
    env, _ = _build(chosen, network, sets, PlainConsole(quiet=True))
    env.reset(seed=0)
    known = 30 - len(env._orders.state_dict()["doubt"]["unknown"])
    assert known == 30 if full else 0 < known <= 8


def test_a_policy_is_learned_from_cached_features(sets, network, tmp_path):
    changes = {"features": "cached", "cells": 3, "cache": tmp_path / "features"}
    changes |= {"oracle_images": 0}
    first, again = tmp_path / "first", tmp_path / "again"
    for run in (first, again):
        train_policy(config(run, **changes), model=network, image_sets=sets)
    assert len(list((tmp_path / "features").iterdir())) == 1
    results = [saved(run, "results.json") for run in (first, again)]
    assert results[0]["environment_steps"] == results[1]["environment_steps"]
    # The second run took from the store what the first had computed, in batches of other sizes.
    torch.testing.assert_close(weights(first), weights(again), atol=1e-3, rtol=1e-3)
    begun = saved(first)
    assert (begun["features"], begun["cells"]) == ("cached", 3)
    with pytest.raises(ValueError, match="over the limit of 0.001 GiB"):
        train_policy(
            config(tmp_path / "x", **changes, cache_gib=0.001), model=network, image_sets=sets
        )


def test_the_packaged_network_is_for_its_own_images(tmp_path, network):
    with pytest.raises(ValueError, match=r"trained on cluttered-digits, not on megapixel-mnist"):
        train_policy(config(tmp_path / "run", images="megapixel-mnist"))
    assert not (tmp_path / "run").exists()
    harder = "cluttered-digits:pieces=20,scenes=3"
    assert len(ImageOptions(images=harder).open(network, "test")) == 3
    network.trained_on = dataclasses.replace(network.trained_on, images="megapixel-mnist")
    with pytest.warns(UserWarning, match="trained on megapixel-mnist, not on cluttered-digits"):
        ImageOptions(images="cluttered-digits:scenes=3").open(network, "test")
    for number in range(6):
        (tmp_path / "tree" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "tree" / str(number % 2) / f"{number}.png")
    # It may be the same pictures.
    assert len(ImageOptions(images=f"folder:{tmp_path / 'tree'}").open(network, "test")) == 2
