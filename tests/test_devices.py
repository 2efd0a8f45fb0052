"""The way of an image, and every stage, on each device that the machine has."""

import copy

import numpy as np
import pytest
import torch

from gfnet_agents import PolicyConfig, train_policy
from gfnet_env import EarlyExitGFNet
from gfnet_env.data import load_images
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.inference import evaluate_static
from gfnet_env.policies import CenterPolicy, RandomPolicy, TargetPolicy
from gfnet_env.policies.base import Scene
from gfnet_env.training import (
    BaselineConfig,
    ClassifierConfig,
    train_baselines,
    train_classifier,
)

# What kernels of different devices may differ by; on the CPU itself nothing may.
TOLERANCE = {"cpu": 0.0, "cuda": 2e-3, "mps": 2e-3}


@pytest.fixture
def sets():
    return {
        split: load_images("cluttered-digits:canvas=48,digit=20,pieces=2,scenes=24", split)
        for split in ("train", "val", "test")
    }


def test_a_glance_and_a_focus_see_what_they_see_on_a_cpu(device, network, digits):
    images, locations = digits[:6], torch.linspace(-1, 1, 12).view(6, 2)

    def look(network, place):
        step = network.glance(images.to(place))
        return network.focus(images.to(place), locations.to(place), step)

    with torch.no_grad():
        expected = look(network, torch.device("cpu"))
        found = look(copy.deepcopy(network).to(device), device)
    for name, value in vars(found).items():
        assert value.device.type == device.type, name
        difference = (value.cpu() - getattr(expected, name)).abs().max()
        assert difference <= TOLERANCE[device.type] * (1 + getattr(expected, name).abs().max()), (
            name
        )


def test_the_environment_serves_arrays_from_every_device(device, network, digits):
    def play(place):
        env = GlanceFocusVectorEnv(4, network=copy.deepcopy(network), images=digits, device=place)
        observations, _ = env.reset(seed=0)
        after, rewards, *_ = env.step(np.full((4, 2), 0.25, dtype=np.float32))
        return [*observations.values(), *after.values(), rewards]

    for found, expected in zip(play(device), play("cpu"), strict=True):
        assert isinstance(found, np.ndarray)
        tolerance = TOLERANCE[device.type]
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("policy", [RandomPolicy(), CenterPolicy()])
def test_the_assembled_network_answers_alike_and_moves(device, network, digits, policy, tmp_path):
    images = digits[:]
    expected = EarlyExitGFNet(network, policy, [0.6, 0.6, 0.6, 0])(images)
    gfnet = EarlyExitGFNet(copy.deepcopy(network), policy, [0.6, 0.6, 0.6, 0]).to(device)
    found = gfnet(images)
    # A confidence at the very threshold may fall on either side of it.
    alike = found.exit_step.cpu() == expected.exit_step
    assert alike.float().mean() >= (1.0 if device.type == "cpu" else 0.95)
    assert (found.classes.cpu() == expected.classes)[alike].all()
    *_, last = gfnet.anytime(images, deadline=60.0)
    assert last.locations.shape == (40, 3, 2)
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    assert loaded.network.device.type == "cpu"
    assert loaded(images).exit_step.tolist() == expected.exit_step.tolist()


def test_all_stages_train(device, sets, tmp_path):
    where = {"device": device.type}
    small = {"epochs": 1, "batch_size": 8, **where}
    statics = train_baselines(
        BaselineConfig(run=tmp_path / "static", resolutions=(16, 48), **small), sets
    )
    assert evaluate_static(statics[16], sets["test"]).shape == (24,)
    begun = {"patch_size": 16, "focus_steps": 2, "baseline": tmp_path / "static"}
    network = train_classifier(ClassifierConfig(run=tmp_path / "one", **begun, **small), sets)
    assert network.device.type == device.type
    policy = PolicyConfig(
        run=tmp_path / "two",
        network=tmp_path / "one",
        timesteps=64,
        num_envs=4,
        oracle_images=4,
        **where,
    )
    train_policy(policy, image_sets=sets)
    again = ClassifierConfig(run=tmp_path / "three", policy=tmp_path / "two", **small)
    train_classifier(again, sets)
    gfnet = EarlyExitGFNet.load(tmp_path / "three").to(device)
    assert gfnet(sets["test"][:]).classes.shape == (24,)


def test_privileged_policies_follow_the_images(device, network, digits):
    network = copy.deepcopy(network).to(device)
    env = GlanceFocusVectorEnv(3, network=network, images=digits)
    observations, infos = env.reset(options={"indices": [4, 5, 6]})
    boxes, rows = digits.boxes, torch.from_numpy(infos["index"])
    scene = Scene(network, digits[rows].to(device), infos["index"], None, boxes[rows].to(device))
    policy = TargetPolicy()
    tensors = {key: torch.from_numpy(value).to(device) for key, value in observations.items()}
    locations, _ = policy(tensors, policy.start(scene))
    assert locations.device.type == device.type
    env.step(locations.cpu().numpy())
