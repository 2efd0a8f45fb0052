import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.inference import EarlyExitGFNet, evaluate_policy
from gfnet_env.policies import (
    UNLEARNED,
    CenterThenCornersPolicy,
    GaussianPolicy,
    GridPolicy,
    Scene,
    find_policy,
    load_policy,
    save_policy,
    select_rows,
)


def observation(count, step=0.0):
    return {"location": torch.zeros(count, 2), "step": torch.full((count, 1), step)}


def walk(policy, steps, count=2):
    """Locations step by step, (steps, count, 2)."""
    state, taken = None, []
    for number in range(steps):
        locations, state = policy(observation(count, number / steps), state)
        taken.append(locations)
    return torch.stack(taken)


def test_the_centre_comes_first_and_then_the_corners():
    places = [[0, 0], [-1, -1], [-1, 1], [1, -1], [1, 1], [0, 0]]
    taken = walk(CenterThenCornersPolicy(), 6)
    assert taken[:, 0].tolist() == places
    assert torch.equal(taken[:, 0], taken[:, 1])


@given(st.integers(1, 6))
def test_a_grid_is_walked_row_by_row_and_begun_again(cells):
    taken = walk(GridPolicy(cells), cells**2 + 1)[:, 0]
    once = taken[:-1]
    assert len(once.unique(dim=0)) == cells**2
    order = once[:, 0] * 10 + once[:, 1]
    assert (order.diff() > 0).all()
    assert torch.equal(taken[0], taken[-1])
    assert once.abs().max() == (1 if cells > 1 else 0)


def test_gaussian_patches_lie_about_the_centre_with_their_deviation():
    taken = walk(GaussianPolicy(std=0.2, seed=1), 4, count=500).flatten(0, 1)
    assert taken.mean().abs() < 0.02
    assert taken.std() == pytest.approx(0.2, abs=0.01)
    wide = walk(GaussianPolicy(std=5.0), 4, count=500)
    assert wide.abs().max() == 1
    assert (wide.abs() == 1).float().mean() > 0.7
    with pytest.raises(ValueError, match="std must be positive, not 0"):
        GaussianPolicy(std=0)


def test_gaussian_patches_hang_on_seed_image_and_step(network, digits):
    policy = GaussianPolicy(seed=3)
    state = policy.start(Scene(network, digits[:5], np.arange(5)))
    drawn, state = policy(observation(5), state)
    assert torch.equal(drawn, GaussianPolicy(seed=3)(observation(5), None)[0])
    assert not torch.equal(drawn, GaussianPolicy(seed=4)(observation(5), None)[0])
    rows = torch.tensor([4, 1])
    assert torch.equal(policy(observation(2), select_rows(state, rows))[0], drawn[rows])
    assert not torch.equal(policy(observation(5, 0.5), state)[0], drawn)


@pytest.mark.parametrize("policy", [CenterThenCornersPolicy(), GridPolicy(4), GaussianPolicy(0.3)])
def test_fixed_policies_survive_saving_and_leave_the_batch(policy, network, digits, tmp_path):
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.config == policy.config
    assert torch.equal(walk(loaded, 4), walk(policy, 4))
    # Where images leave in between, the others look where they would have looked anyway.
    gfnet = EarlyExitGFNet(network, policy, [0.5, 0.6, 0.7, 0.0])
    locations = gfnet(digits[:]).locations
    record = evaluate_policy(network, policy, digits)
    taken = ~locations.isnan()
    assert 0 < taken.float().mean() < 1
    assert torch.equal(locations[taken], torch.from_numpy(record.locations)[taken])


def test_policies_are_found_by_name():
    for name in UNLEARNED:
        assert find_policy(name).name == name
    names = ", ".join(UNLEARNED)
    with pytest.raises(ValueError, match=f"unknown policy 'psychic'; known: {names}"):
        find_policy("psychic")
