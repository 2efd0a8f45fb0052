"""The loop that all code uses to look at pictures: glance, decide, look, until the exit."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env import rows
from gfnet_env.exits import ExitRule, exit_now
from gfnet_env.features.base import FeatureSource
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, State
from gfnet_env.policies.base import Context, Policy, decide, start


@dataclass(frozen=True)
class Step:
    """The pictures that are still looked at.

    Attributes:
        rows: Their rows in the batch, (R,) int64.
        state: What the model knows of them, R rows.
    """

    rows: Tensor
    state: State


def glance(features: FeatureSource, indices: npt.NDArray[np.int64]) -> State:
    """The state after a glance at the images ``indices``, (B,)."""
    return begin(features, indices, features.overview(indices))


def begin(features: FeatureSource, indices: npt.NDArray[np.int64], overviews: Features) -> State:
    """``glance``, from the features of the overviews."""
    sizes = features.images.sizes(indices).to(features.model.device)
    return features.model.begin(overviews, sizes)


def look(
    features: FeatureSource, indices: npt.NDArray[np.int64], looks: Look, state: State
) -> State:
    """The state after a look at each of the images, (B,); none of the looks stops."""
    looks = features.snap(looks)
    return features.model.look(features.window(indices, looks), looks, state)


def rollout(
    features: FeatureSource,
    policy: Policy,
    context: Context,
    exit_rule: ExitRule | None = None,
) -> Iterator[Step]:
    """Yield a step after the glance and after every look, T at most.

    A picture exits when the rule says so, when the policy stops, or after the last look. Later
    steps do not contain it; the last state yielded for it is the answer.

    Args:
        features: Source of the model's features.
        policy: Decides where to look.
        context: Context of B pictures.
        exit_rule: When pictures exit; with None they never exit early.
    """
    model, indices = features.model, context.indices
    state = glance(features, indices)
    memory = start(policy, context)
    going = torch.arange(len(indices), device=state.number.device)
    for _ in range(model.focus_steps):
        yield Step(going, state)
        if exit_rule is not None:
            going, state, memory = _without(exit_now(exit_rule, state), going, state, memory)
        if len(going) == 0:
            return
        looks, memory = decide(policy, model, state, memory)
        if bool(looks.stop.any()):
            stop = looks.stop
            looks = rows.select(looks, ~stop)
            going, state, memory = _without(stop, going, state, memory)
            if len(going) == 0:
                return
        state = look(features, indices[going.cpu().numpy()], looks, state)
    yield Step(going, state)


def replay(
    features: FeatureSource, indices: npt.NDArray[np.int64], state: State, looks: Look
) -> Iterator[Step]:
    """``rollout`` of looks that are known beforehand: all their windows are encoded in one call.

    Args:
        features: Source of the model's features.
        indices: The images, (B,).
        state: The state after a glance at them.
        looks: B·N looks, image by image.
    """
    count = len(looks) // len(indices)
    looks = features.snap(looks)
    encoded = features.window(indices.repeat(count), looks)
    everything = torch.arange(len(indices), device=state.number.device)
    yield Step(everything, state)
    for number in range(count):
        chosen = everything * count + number
        state = features.model.look(rows.select(encoded, chosen), rows.select(looks, chosen), state)
        yield Step(everything, state)


def _without(
    leaving: Tensor, going: Tensor, state: State, memory: object
) -> tuple[Tensor, State, object]:
    """Keep the rows that do not leave."""
    if not bool(leaving.any()):
        return going, state, memory
    stay = ~leaving
    return going[stay], rows.select(state, stay), rows.select(memory, stay)
