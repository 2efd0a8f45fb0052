import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env import rows
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.policies import (
    UNLEARNED,
    CenterPolicy,
    CenterThenCornersPolicy,
    Context,
    GaussianPolicy,
    GridPolicy,
    RandomPolicy,
    load_policy,
    save_policy,
)
from gfnet_env.policies.base import POLICIES


def observation(count, number=0):
    return {"number": torch.full((count, 1), float(number))}


def memory(count, looks=4):
    return {"images": torch.arange(count), "looks": torch.full((count,), looks)}


def walk(policy, steps, count=2):
    """Looks step by step: locations (steps, count, 2) and scales (steps, count)."""
    kept = memory(count, steps) if isinstance(policy, RandomPolicy | GaussianPolicy) else None
    taken = []
    for number in range(steps):
        looks, kept = policy(observation(count, number), kept)
        taken.append(looks)
    return torch.stack([each.location for each in taken]), torch.stack(
        [each.scale for each in taken]
    )


def test_the_centre_comes_first_and_then_the_corners():
    places = [[0, 0], [-1, -1], [-1, 1], [1, -1], [1, 1], [0, 0]]
    taken, scales = walk(CenterThenCornersPolicy(), 6)
    assert taken[:, 0].tolist() == places
    assert torch.equal(taken[:, 0], taken[:, 1])
    assert (scales == 1).all()


@given(st.integers(1, 6))
def test_a_grid_is_walked_row_by_row_and_begun_again(cells):
    taken = walk(GridPolicy(cells), cells**2 + 1)[0][:, 0]
    once = taken[:-1]
    assert len(once.unique(dim=0)) == cells**2
    order = once[:, 0] * 10 + once[:, 1]
    assert (order.diff() > 0).all()
    assert torch.equal(taken[0], taken[-1])
    assert once.abs().max() == (1 if cells > 1 else 0)


def test_gaussian_looks_lie_about_the_centre_with_their_deviation():
    taken = walk(GaussianPolicy(std=0.2, seed=1), 4, count=500)[0].flatten(0, 1)
    assert taken.mean().abs() < 0.02
    assert taken.std() == pytest.approx(0.2, abs=0.01)
    wide = walk(GaussianPolicy(std=5.0), 4, count=500)[0]
    assert wide.abs().max() == 1
    assert (wide.abs() == 1).float().mean() > 0.7
    with pytest.raises(ValueError, match="std must be positive, not 0"):
        GaussianPolicy(std=0)


def test_scales_are_drawn_evenly_in_their_logarithm():
    _, scales = walk(RandomPolicy(max_scale=8.0), 4, count=500)
    assert scales.min() >= 1
    assert scales.max() <= 8
    assert scales.log2().mean() == pytest.approx(1.5, abs=0.1)
    assert (walk(RandomPolicy(), 4)[1] == 1).all()
    assert (walk(CenterPolicy(scale=2.5), 4)[1] == 2.5).all()
    for wrong in (0.5, 1e300, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="max_scale must be "):
            RandomPolicy(max_scale=wrong)
        with pytest.raises(ValueError, match="^scale must be "):
            GridPolicy(scale=wrong)


@pytest.mark.parametrize("kind", [GaussianPolicy, RandomPolicy])
def test_drawn_looks_depend_on_seed_image_and_step(network, digits, kind):
    policy = kind(seed=3)
    kept = policy.start(Context(LiveFeatures(network, digits), np.arange(5)))
    drawn, kept = policy(observation(5), kept)
    assert torch.equal(drawn.location, kind(seed=3)(observation(5), kept)[0].location)
    assert not torch.equal(drawn.location, kind(seed=4)(observation(5), kept)[0].location)
    some = torch.tensor([4, 1])
    fewer, _ = policy(observation(2), rows.select(kept, some))
    assert torch.equal(fewer.location, drawn.location[some])
    assert not torch.equal(policy(observation(5, 1), kept)[0].location, drawn.location)


@pytest.mark.parametrize(
    "policy",
    [CenterThenCornersPolicy(scale=2.0), GridPolicy(4), GaussianPolicy(0.3, max_scale=3.0)],
)
def test_fixed_policies_survive_saving_and_leave_the_batch(policy, network, digits, tmp_path):
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.config == policy.config
    for one, other in zip(walk(loaded, 4), walk(policy, 4), strict=True):
        assert torch.equal(one, other)
    # Where images leave in between, the others look where they would have looked anyway.
    gfnet = EarlyExitGFNet(network, policy, [0.5, 0.6, 0.7, 0.0])
    prediction = gfnet(digits[:])
    record = evaluate_policy(network, policy, digits)
    taken = ~prediction.scales.isnan()
    assert 0 < taken.float().mean() < 1
    assert torch.equal(prediction.locations[taken], torch.from_numpy(record.locations)[taken])
    assert torch.equal(prediction.scales[taken], torch.from_numpy(record.scales)[taken])


def test_policies_are_found_by_name():
    for name in UNLEARNED:
        assert type(POLICIES.build(name)) is POLICIES.find(name)
    assert POLICIES.build("random:seed=4,max_scale=2").config == {"seed": 4, "max_scale": 2.0}
    with pytest.raises(ValueError, match="unknown policy 'psychic'; known: random:seed=0"):
        POLICIES.build("psychic")
