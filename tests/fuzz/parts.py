"""Specs of parts, and arguments of networks."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

import gfnet_agents  # noqa: F401
from gfnet_agents.learners import LEARNERS
from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.actions import ACTIONS, build_actions
from gfnet_env.classifiers import CLASSIFIERS, build_classifier
from gfnet_env.encoders import ENCODERS
from gfnet_env.exits import EXITS
from gfnet_env.features.options import FEATURES
from gfnet_env.images import IMAGES, load_images
from gfnet_env.models import NetworkConfig, blank_state
from gfnet_env.observations import OBSERVATIONS, observation_space
from gfnet_env.policies import POLICIES
from gfnet_env.registry import Registry
from gfnet_env.rewards import REWARDS
from tests.fuzz.core import Input, target
from tests.fuzz.networks import tiny_images, tiny_network
from tests.fuzz.settings import hints_of
from tests.fuzz.values import anything, fitting, spec

# Those that download nothing.
_IMAGES = (*["cluttered-digits"] * 9, "folder", "cluttered-digit", "no-such-images")
# Small ones, and names that are none.
_ENCODERS = (
    *("compact", "compact", "compact", "compact", "compact", "compact-deep", "compacter"),
    *("test_resnet", "test_vit", "test_efficientnet", "test_convnext", "early", "torchvision"),
)


@target("image specs", share=6)
def _image_specs(draw: Random, folder: Path) -> Input:
    text = spec(draw, IMAGES, _IMAGES)
    options: dict[str, Any] = {}
    for name, right in (("image_size", 32), ("seed", 1), ("workers", 0), ("memory_limit", 10**6)):
        if draw.random() < 0.07:
            options[name] = draw.choice((right, anything(draw, depth=0)))
    split = draw.choice((*["train", "val", "test"] * 5, "x"))

    def use() -> None:
        images = load_images(text, split, **options)
        assert len(images) == len(images.labels) > 0
        assert images.picture(len(images) - 1).dtype == torch.uint8

    return Input((text, split, options), use, [*_said(text), split, *options])


@target("networks", share=5)
def _networks(draw: Random, folder: Path) -> Input:
    """Specs of encoders and classifiers, and the other settings of a network."""
    config: dict[str, Any] = {"patch_size": draw.choice((8, 16, 16, 33)), "num_classes": 3}
    config["encoder"] = spec(draw, ENCODERS, _ENCODERS)
    if draw.random() < 0.2:
        config["glance_encoder"] = spec(draw, ENCODERS, _ENCODERS)
    if draw.random() < 0.4:
        config["classifier"] = spec(draw, CLASSIFIERS)
    hints = hints_of(NetworkConfig)
    for name in draw.sample(sorted(hints), draw.choice((0, 0, 1, 2))):
        if name in ("encoder", "glance_encoder", "classifier"):
            continue
        right = draw.random() < 0.85
        config[name] = fitting(draw, hints[name]) if right else anything(draw)

    def use() -> None:
        network = GlanceFocusNetwork.build(**config).eval()
        assert len(network.multiply_adds()) == 1 + network.focus_steps
        assert blank_state(network).logits.isfinite().all()

    said = (word for value in config.values() for word in _said(str(value)))
    return Input(config, use, [*config, *said])


@target("classifier specs", share=4)
def _classifier_specs(draw: Random, folder: Path) -> Input:
    text = spec(draw, CLASSIFIERS)
    memory_size = draw.choice((None, None, 4, 8, 6))

    def use() -> None:
        classifier = build_classifier(text, 8, 3, 2, memory_size).eval()
        vector = torch.zeros(2, 8 + 3 * classifier.sees_places)
        number = torch.zeros(2, dtype=torch.int64)
        memory = classifier.remember(vector, classifier.empty_memory(vector), number)
        assert classifier.judge(memory, number + 1).shape == (2, 3)

    return Input((text, memory_size), use, [*_said(text), "memory"])


@target("policy specs", share=4)
def _policy_specs(draw: Random, folder: Path) -> Input:
    text = spec(draw, POLICIES)

    def use() -> None:
        model, images = tiny_network(), tiny_images()
        policy = POLICIES.build(text)
        prediction = EarlyExitGFNet(model, policy)(images, np.arange(2))
        assert prediction.locations.isfinite().all()

    return Input(text, use, list(_said(text)))


def _build_observation(text: str) -> None:
    model = tiny_network()
    space = observation_space(OBSERVATIONS.build(text, focus_steps=model.focus_steps), model)
    assert space.spaces


def _build_features(text: str) -> None:
    images = ArrayImages(np.zeros((1, 3, 24, 32), np.uint8))
    # A new cache says what it holds.
    with contextlib.redirect_stdout(io.StringIO()):
        FEATURES.build(text, model=tiny_network(), images=images)


def _build_actions(text: str) -> None:
    actions, state = build_actions(text, patch_size=16), blank_state(tiny_network(), 2)
    given = np.stack([actions.space.sample(), actions.space.sample()])
    actions.looks(actions.read(given), state).check(2)


_BUILD: tuple[tuple[Registry[Any], Callable[[str], object]], ...] = (
    (ACTIONS, _build_actions),
    (ACTIONS, lambda text: _build_actions(f"{text}+stop")),
    (OBSERVATIONS, _build_observation),
    (REWARDS, REWARDS.build),
    (EXITS, lambda text: EXITS.build(text)(blank_state(tiny_network()))),
    (LEARNERS, LEARNERS.parse),
    (FEATURES, _build_features),
)


@target("other specs", share=6)
def _other_specs(draw: Random, folder: Path) -> Input:
    """Specs of actions, observations, rewards, exits, learners and features."""
    registry, build = draw.choice(_BUILD)
    text = spec(draw, registry)
    if registry is FEATURES:
        # No cache outside the folder.
        text = f"{text},folder={folder}" if text.startswith("cached:") else "live"
    return Input(text, lambda: build(text), list(_said(text)))


def _said(text: str) -> Iterator[str]:
    """What an error may name of a spec: all of it, its name, a parameter or a value."""
    yield text
    for item in (*re.split("[:=,]", text), *re.findall('"[^"]*"', text)):
        with contextlib.suppress(ValueError):
            value = json.loads(item)
            item = f"{value:g}" if isinstance(value, float) else str(value)
        if item:
            yield from (item, repr(item)[1:-1])
