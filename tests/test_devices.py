"""A picture's way through the model, and every stage, on each device that the machine has."""

import copy

import numpy as np
import pytest
import torch

from gfnet_agents import PolicyConfig, train_policy
from gfnet_env import EarlyExitGFNet
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_static
from gfnet_env.features import LiveFeatures
from gfnet_env.images import ArrayImages, load_images
from gfnet_env.looks import Look
from gfnet_env.policies import CenterPolicy, Context, RandomPolicy, TargetPolicy
from gfnet_env.rollout import glance, look
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


def test_a_glance_and_a_look_see_what_they_see_on_a_cpu(device, network, digits):
    pixels, indices = digits[:6], np.arange(6)
    locations = torch.linspace(-1, 1, 12).view(6, 2)

    def see(network, place):
        features = LiveFeatures(network, ArrayImages(pixels.to(place)))
        state = glance(features, indices)
        return look(features, indices, Look.at(locations.to(place)), state)

    with torch.no_grad():
        expected = see(network, torch.device("cpu"))
        found = see(copy.deepcopy(network).to(device), device)
    known = {name: value for name, value in vars(found).items() if value is not None}
    for name, value in known.items():
        assert value.device.type == device.type, name
        difference = (value.cpu() - getattr(expected, name)).abs().max()
        assert difference <= TOLERANCE[device.type] * (1 + getattr(expected, name).abs().max()), (
            name
        )


def test_the_environment_serves_arrays_from_every_device(device, network, digits):
    def play(place):
        env = GlanceFocusVectorEnv(4, model=copy.deepcopy(network), images=digits, device=place)
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
    assert loaded.model.device.type == "cpu"
    assert loaded(images).exit_step.tolist() == expected.exit_step.tolist()


def test_all_stages_train(device, sets, tmp_path):
    where = {"device": device.type}
    small = {"epochs": 1, "batch_size": 8, **where}
    statics = train_baselines(
        BaselineConfig.of(run=tmp_path / "static", resolutions=(16, 48), **small), sets
    )
    assert evaluate_static(statics[16], sets["test"]).shape == (24,)
    begun = {"patch_size": 16, "focus_steps": 2, "baseline": tmp_path / "static"}
    network = train_classifier(ClassifierConfig.of(run=tmp_path / "one", **begun, **small), sets)
    assert network.device.type == device.type
    policy = PolicyConfig.of(
        run=tmp_path / "two",
        network=tmp_path / "one",
        timesteps=64,
        num_envs=4,
        oracle_images=4,
        **where,
    )
    train_policy(policy, image_sets=sets)
    again = ClassifierConfig.of(run=tmp_path / "three", policy=tmp_path / "two", **small)
    train_classifier(again, sets)
    gfnet = EarlyExitGFNet.load(tmp_path / "three").to(device)
    assert gfnet(sets["test"][:]).classes.shape == (24,)


def test_privileged_policies_follow_the_images(device, network, digits):
    network = copy.deepcopy(network).to(device)
    env = GlanceFocusVectorEnv(3, model=network, images=digits, observation="plain")
    observations, infos = env.reset(options={"indices": [4, 5, 6]})
    boxes = digits.boxes[torch.from_numpy(infos["index"])].to(device)
    context = Context(env.features, infos["index"], None, boxes)
    policy = TargetPolicy()
    tensors = {key: torch.from_numpy(value).to(device) for key, value in observations.items()}
    locations, _ = policy(tensors, policy.start(context))
    assert locations.device.type == device.type
    env.step(locations.cpu().numpy())
