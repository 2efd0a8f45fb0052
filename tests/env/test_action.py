import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import gfnet_env  # noqa: F401  registers the environment
from gfnet_env.env.action import ACTIONS, ContinuousActions, GridActions, resolve_actions
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.perception.geometry import lattice


@given(st.integers(1, 9), st.data())
def test_a_cell_is_a_location_of_the_lattice_and_the_mask_finds_it_again(grid, data):
    actions = GridActions(grid)
    cells = np.array(data.draw(st.lists(st.integers(0, grid**2 - 1), min_size=1, max_size=5)))
    locations = actions.locations(cells)
    np.testing.assert_array_equal(locations, lattice(grid)[cells])
    trail = np.full((1, 6, 2), np.nan, dtype=np.float32)
    trail[0, : len(cells)] = locations
    free = np.flatnonzero(actions.masks(trail)[0])
    expected = set(range(grid**2)) - set(cells.tolist())
    assert set(free.tolist()) == (expected or set(range(grid**2)))


def test_grid_actions_are_the_same_patches_as_their_locations(digits, network):
    arguments = {"network": network, "images": digits, "exit_confidence": 0.9}
    by_cell = GlanceFocusVectorEnv(4, actions="grid", grid=5, **arguments)
    by_location = GlanceFocusVectorEnv(4, **arguments)
    assert by_cell.single_action_space == spaces.Discrete(25)
    assert by_cell.action_space == spaces.MultiDiscrete([25] * 4)
    for env in (by_cell, by_location):
        env.reset(seed=0)
    by_cell.action_space.seed(0)
    for _ in range(6):
        cells = by_cell.action_space.sample()
        one, other = by_cell.step(cells), by_location.step(lattice(5).numpy()[cells])
        for key, value in one[0].items():
            np.testing.assert_array_equal(value, other[0][key])
        for mine, theirs in zip(one[1:4], other[1:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_masks_follow_each_episode_and_survive_saving(digits, network):
    def make():
        arguments = {"network": network, "images": digits, "autoreset_mode": "SameStep"}
        return GlanceFocusVectorEnv(3, actions="grid", grid=4, focus_steps=2, **arguments)

    env = make()
    env.reset(seed=0)
    assert env.action_masks().shape == (3, 16)
    assert env.action_masks().all()
    env.step(np.array([0, 5, 15]))
    masks = env.action_masks()
    assert [np.flatnonzero(~row).tolist() for row in masks] == [[0], [5], [15]]
    other = make()
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    np.testing.assert_array_equal(other.action_masks(), masks)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert env.action_masks()[1].all()
    # Two episodes end here and begin anew, the other goes on.
    env.step(np.array([1, 6, 1]))
    assert env.action_masks().sum(axis=1).tolist() == [16, 15, 16]


def test_the_single_environment_takes_cells_too(digits):
    env = GlanceFocusEnv(images=digits, actions="grid", grid=3)
    env.reset(seed=0)
    observation, *_ = env.step(env.action_space.sample(env.action_masks().astype(np.int8)))
    assert env.action_masks().shape == (9,)
    assert env.action_masks().sum() == 8
    cell = np.flatnonzero(~env.action_masks())
    np.testing.assert_array_equal(observation["location"], lattice(3)[cell][0])
    check_env(gym.make("gfnet_env/GlanceFocus-v0", actions="grid", grid=3).unwrapped)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(2), r"a cell in 0\.\.8, not float64"),
        (np.array([0, 9]), r"an action must be the number of a cell in 0\.\.8, not 9"),
        (np.array([-1, 0]), r"0\.\.8, not -1"),
        (np.zeros((2, 2), dtype=int), r"actions must be \(2,\), the number of a cell"),
    ],
)
def test_wrong_cells_are_refused_and_change_nothing(digits, actions, message):
    env = GlanceFocusVectorEnv(2, images=digits, actions="grid", grid=3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.action_masks().all()


def test_what_is_unknown_or_cannot_be_is_named(digits):
    with pytest.raises(ValueError, match="unknown actions 'polar'; known: continuous, grid"):
        GlanceFocusVectorEnv(1, images=digits, actions="polar")
    with pytest.raises(ValueError, match="grid must be at least 1, not 0"):
        resolve_actions("grid", 0)
    with pytest.raises(ValueError, match="continuous actions have no masks"):
        GlanceFocusEnv(images=digits).action_masks()
    with pytest.raises(ValueError, match=r"a \(row, column\) in \[-1, 1\], not <U1"):
        ContinuousActions().locations(np.array([["a", "b"]]))
    assert list(ACTIONS) == ["continuous", "grid"]
