import numpy as np
import pytest
import torch

from gfnet_env.exits import ThresholdExit, never
from gfnet_env.features import LiveFeatures
from gfnet_env.looks import Look
from gfnet_env.policies import Context, RandomPolicy
from gfnet_env.rollout import glance, look, replay, rollout


class StopsAt:
    """Looks at the centre, and stops at an image after as many looks as its number."""

    def start(self, context):
        return torch.from_numpy(context.indices)

    def __call__(self, observation, memory):
        taken = (observation["step"] * 3).round().squeeze(1)
        centre = torch.zeros(len(memory), 2)
        return Look.at(centre, stop=taken >= memory), memory


@pytest.fixture
def context(network, digits):
    return Context(LiveFeatures(network, digits), np.arange(5), digits.labels[:5])


@torch.no_grad()
def test_a_rollout_is_a_glance_and_the_looks_that_the_policy_decides_on(network, context):
    steps = list(rollout(context.features, RandomPolicy(), context))
    assert [step.state.number.tolist() for step in steps] == [[n] * 5 for n in range(4)]
    assert all(step.rows.tolist() == [0, 1, 2, 3, 4] for step in steps)
    state = glance(context.features, context.indices)
    assert torch.equal(steps[0].state.logits, state.logits)
    for step in steps[1:]:
        state = look(context.features, context.indices, Look.at(step.state.location), state)
        assert torch.equal(step.state.logits, state.logits)
        assert torch.equal(step.state.seen, state.seen)


@torch.no_grad()
def test_looks_that_are_known_beforehand_are_encoded_in_one_call(context):
    steps = list(rollout(context.features, RandomPolicy(), context))
    encoded, before = context.features.windows, []
    locations = torch.stack([step.state.location for step in steps[1:]], dim=1).flatten(0, 1)
    state = glance(context.features, context.indices)
    encode = context.features.window
    context.features.window = lambda *given: before.append(given) or encode(*given)
    again = list(replay(context.features, context.indices, state, Look.at(locations)))
    assert len(before) == 1
    assert context.features.windows == 2 * encoded
    for step, other in zip(steps, again, strict=True):
        assert torch.equal(step.rows, other.rows)
        assert torch.equal(step.state.location, other.state.location)
        assert torch.allclose(step.state.logits, other.state.logits, atol=1e-4)


@torch.no_grad()
def test_pictures_leave_where_the_policy_stops(context):
    steps = list(rollout(context.features, StopsAt(), context))
    assert [step.rows.tolist() for step in steps] == [
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4],
        [2, 3, 4],
        [3, 4],
    ]


@torch.no_grad()
def test_pictures_leave_where_the_rule_says_so_and_nobody_asks_about_them_again(context):
    everything = list(rollout(context.features, RandomPolicy(), context, never))
    middle = everything[0].state.confidence.median().item()
    thresholds = (middle, 2.0, 0.0, 0.0)
    steps = list(rollout(context.features, RandomPolicy(), context, ThresholdExit(thresholds)))
    assert len(steps) == 3
    unsure = everything[0].state.confidence < middle
    assert 0 < unsure.sum() < 5
    for step, whole in zip(steps[1:], everything[1:], strict=False):
        assert step.rows.tolist() == unsure.nonzero().squeeze(1).tolist()
        torch.testing.assert_close(step.state.logits, whole.state.logits[unsure])


@torch.no_grad()
def test_it_ends_where_everything_has_left(context):
    steps = list(rollout(context.features, RandomPolicy(), context, ThresholdExit((0.0,) * 4)))
    assert len(steps) == 1
