"""Parts of one's own: each one new file outside the library, named on the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_agents import PolicyConfig, parse_config, train_policy
from gfnet_cli.main import main
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.benchmarks import ComparisonConfig, compare_policies
from gfnet_env.command_line import parse
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.files import read_json
from gfnet_env.images import load_images
from gfnet_env.registry import import_parts
from gfnet_env.training import ClassifierConfig, train_classifier

PARTS = Path(__file__).parent / "parts"
DIGITS = "cluttered-digits:scenes=12"
SMALL = ("--patch-size", 16, "--focus-steps", 2, "--epochs", 1, "--batch-size", 8)


@pytest.fixture(autouse=True)
def _in_the_folder_of_parts(monkeypatch):
    monkeypatch.chdir(PARTS)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def learn(tmp_path):
    """Runs ``train_policy`` with some arguments."""

    def run(*arguments, images=DIGITS):
        given = (
            "--images",
            images,
            "--run",
            tmp_path / "policy",
            "--timesteps",
            48,
            "--num-envs",
            8,
        )
        given += ("--oracle-images", 0, "--curve-points", 1, "--device", "cpu", *arguments)
        return train_policy(parse_config(PolicyConfig, "", [*map(str, given)]))

    return run


@pytest.fixture
def train(tmp_path):
    """Runs ``train_classifier`` with some arguments."""

    def run(*arguments, images=DIGITS):
        given = ("--images", images, "--run", tmp_path / "network", "--device", "cpu", *SMALL)
        return train_classifier(parse_config(ClassifierConfig, "", [*map(str, given + arguments)]))

    return run


def test_a_reward_with_a_parameter(learn, tmp_path):
    spec = "sharp_reward:Sharp:power=3"
    learn("--reward", spec)
    assert read_json(tmp_path / "policy" / "config.json")["config"]["reward"] == spec
    with pytest.raises(ValueError, match=r"power must be at least 1, not 0\.5"):
        learn("--reward", "sharp_reward:Sharp:power=0.5", "--overwrite")
    with pytest.raises(ValueError, match=r"has no parameter 'powr'; it has :power=2\.0"):
        learn("--reward", "sharp_reward:Sharp:powr=3", "--overwrite")


def test_an_observation(learn, tmp_path):
    gfnet = learn("--observation", "belief_observation:belief")
    shapes = gfnet.policy.config["shapes"]
    assert shapes == {"probabilities": [10], "location": [2]}
    # The assembled network shows it to its policy.
    loaded = EarlyExitGFNet.load(tmp_path / "policy")
    pixels = load_images(DIGITS, "test")[:]
    assert loaded(pixels).classes.tolist() == gfnet(pixels).classes.tolist()


def test_an_action(learn):
    gfnet = learn("--actions", "circle_actions:Circle:radius=0.5")
    record = evaluate_policy(gfnet.model, gfnet.policy, load_images(DIGITS, "test"))
    steps = np.diff(record.locations, axis=1, prepend=0)
    inside = (np.abs(record.locations) < 1).all(axis=2)
    assert inside.any()
    assert np.linalg.norm(steps, axis=2)[inside] == pytest.approx(0.5, abs=1e-5)


def test_an_action_that_may_stop(learn):
    gfnet = learn("--actions", "circle_actions:Circle:radius=0.5+stop", "--look-cost", 0.01)
    assert gfnet.policy.actor[-1].out_features == 2


def test_a_policy(learn, tmp_path):
    learn()
    spec = "spiral_policy:Spiral:turn=0.3"
    arguments = ["--run", tmp_path / "policy", "--policies", "random", "learned", spec]
    arguments += ["--images", DIGITS]
    config = parse(ComparisonConfig, "", [*map(str, arguments)])
    results = compare_policies(config)
    assert list(results.policies) == ["random", "learned", spec]
    assert results.policies[spec].accuracy[0] == results.policies["random"].accuracy[0]


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ("stripes_images:stripes:count=16", ("stands", "lies")),
        ("rings_dataset:Rings:count=16", ("disc", "ring")),
    ],
)
def test_an_image_set(train, learn, images, names, tmp_path):
    network = train(images=images)
    assert network.class_names == names
    assert network.trained_on.images == images
    gfnet = learn("--network", tmp_path / "network", images=images)
    test = load_images(images, "test")
    assert len(gfnet.classify(test)) == len(test) == 16


def test_an_encoder(train):
    network = train("--encoder", "edge_encoder:Edges:width=8")
    assert network.feature_shape[0] == network.vector_size == 8


def test_a_classifier(train):
    network = train("--classifier", "mean_classifier:Mean:dropout=0.1")
    assert network.classifier.memory_size == network.vector_size
    views = torch.rand(5, network.vector_size)
    memory = network.classifier.empty_memory(views[:1])
    for number, view in enumerate(views):
        memory = network.classifier.remember(view[None], memory, torch.tensor([number]))
    assert torch.allclose(memory[0], views.mean(dim=0), atol=1e-6)


def test_a_learner(learn, tmp_path):
    spec = "climbing_learner:Climbing:deviation=0.2"
    gfnet = learn("--algorithm", spec)
    results = read_json(tmp_path / "policy" / "results.json")
    assert results["environment_steps"] == 48
    loaded = EarlyExitGFNet.load(tmp_path / "policy")
    for name, weight in loaded.policy.state_dict().items():
        assert torch.equal(weight, gfnet.policy.state_dict()[name])
    # It goes on from what it was, and a run that is complete stays.
    learn("--algorithm", spec, "--resume")
    learn("--continue-from", tmp_path / "policy", "--run", tmp_path / "more")
    config = read_json(tmp_path / "more" / "config.json")["config"]
    assert config["algorithm"] == spec


def test_a_learner_goes_on_from_its_checkpoint_to_the_bit(learn, tmp_path, monkeypatch):
    spec = ("--algorithm", "climbing_learner:Climbing", "--checkpoint-minutes", 0)
    whole = learn(*spec, "--run", tmp_path / "whole").policy.state_dict()
    learner = sys.modules["climbing_learner"].Climbing
    play = learner.play

    def interrupted(self, policy):
        if self.steps >= 24:
            raise KeyboardInterrupt
        return play(self, policy)

    monkeypatch.setattr(learner, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(*spec)
    monkeypatch.setattr(learner, "play", play)
    resumed = learn(*spec, "--resume").policy.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_training_says_what_later_commands_must_import(tmp_path, capsys):
    run = ["--run", str(tmp_path / "network"), "--images", DIGITS, *map(str, SMALL)]
    main(["train-classifier", "--encoder", "edge_encoder:Edges:width=8", *run])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("If the run names parts of your own, later commands need --import ")
    assert "--import edge_encoder" in said


def test_what_a_file_names_is_imported_by_no_one_but_the_user(train, tmp_path, monkeypatch):
    network = train("--encoder", "edge_encoder:Edges:width=8")
    monkeypatch.delitem(sys.modules, "edge_encoder")
    with pytest.raises(ValueError, match="--import edge_encoder"):
        GlanceFocusNetwork.load(tmp_path / "network")
    import_parts("edge_encoder")
    loaded = GlanceFocusNetwork.load(tmp_path / "network")
    assert loaded.config.encoder == network.config.encoder
