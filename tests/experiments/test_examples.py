import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.images import load_images
from gfnet_env.policies import Context, RandomPolicy
from gfnet_env.rollout import glance, rollout

ROOT = Path(__file__).parents[2]
REINFORCE = ROOT / "experiments" / "examples" / "reinforce.py"
DIGITS = "cluttered-digits:scenes=50"


@pytest.fixture
def train(run, network):
    """Runs an example on few scenes; checks that what it reports is of an assembled network."""

    def train_example(script, *arguments):
        printed = run(f"examples/{script}", "--images", DIGITS, *arguments)
        (line,) = re.findall(r"accuracy after each step: (.*)", printed)
        accuracy = [float(value) for value in re.findall(r"([\d.]+)%", line)]
        assert len(accuracy) == 1 + network.focus_steps
        test = load_images(DIGITS, "test")
        seen = glance(LiveFeatures(network, test), np.arange(len(test)))
        right = (seen.classes == test.labels).float().mean().item()
        assert accuracy[0] == pytest.approx(100 * right, abs=0.06)

    return train_example


def test_reinforce_runs(train):
    train("reinforce.py", "--updates", 2)


def test_reinforce_finds_what_is_rewarded(tiny_network, tiny_images):
    place = torch.tensor([0.5, -0.5])
    envs = GlanceFocusVectorEnv(
        16,
        model=tiny_network,
        images=tiny_images,
        autoreset_mode="SameStep",
        reward=lambda transition: -(transition.after.location - place).square().sum(dim=1),
    )
    kind = runpy.run_path(str(REINFORCE))["Reinforce"]
    steps = 120 * envs.num_envs * envs.focus_steps
    learner = kind(envs, seed=0, device=torch.device("cpu"), timesteps=steps)
    learner.learn(lambda: None)
    assert learner.steps == steps
    record = evaluate_policy(tiny_network, learner.policy(), tiny_images)
    assert np.abs(record.locations - place.numpy()).max() < 0.25


def test_rllib_learns_in_the_vector_environment(train):
    pytest.importorskip("ray.rllib", reason="RLlib is not installed (the extra 'rllib')")
    import ray

    try:
        train("rllib_ppo.py", "--updates", 1)
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore:Creating .*WeightUpdater:DeprecationWarning")
def test_torchrl_learns_in_the_vector_environment(train):
    pytest.importorskip("torchrl", reason="TorchRL is not installed (the extra 'torchrl')")
    train("torchrl_ppo.py", "--updates", 1)


def test_torchrl_takes_the_single_environment_as_it_is():
    pytest.importorskip("torchrl", reason="TorchRL is not installed (the extra 'torchrl')")
    from torchrl.envs import GymEnv, check_env_specs

    import gfnet_env  # noqa: F401

    env = GymEnv("gfnet_env/GlanceFocus-v0", images=DIGITS)
    check_env_specs(env)
    episode = env.rollout(10)
    assert len(episode) == 3
    assert episode["next", "terminated"].squeeze(1).tolist() == [False, False, True]


def test_another_network_learns_where_to_look():
    pytest.importorskip("canvit_pytorch", reason="CanViT is not installed (the extra 'canvit')")
    example = runpy.run_path(str(ROOT / "experiments" / "examples" / "canvit.py"))
    assert example["main"](timesteps=200).num_timesteps >= 200
    model, images = example["CanViT"]().eval(), load_images(DIGITS, "test")
    context = Context(LiveFeatures(model, images), np.arange(5))
    with torch.no_grad():
        steps = list(rollout(context.features, RandomPolicy(), context))
    assert len(steps) == len(model.multiply_adds()) == 4
    assert steps[-1].state.memory.canvas.shape == (5, 32, 32)
