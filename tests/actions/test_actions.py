import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import gfnet_env  # noqa: F401  registers the environment
from gfnet_env.actions import (
    ACTIONS,
    Actions,
    BoxActions,
    ContinuousActions,
    GridActions,
    build_actions,
)
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.looks import Look, lattice


@given(st.integers(1, 9), st.data())
def test_a_cell_is_a_location_of_the_lattice_and_the_mask_finds_it_again(grid, data):
    actions = GridActions(grid)
    cells = np.array(data.draw(st.lists(st.integers(0, grid**2 - 1), min_size=1, max_size=5)))
    looks = actions.looks(torch.from_numpy(cells), None)
    torch.testing.assert_close(looks.location, lattice(grid)[cells])
    trail = Look.at(torch.full((1, 6, 2), torch.nan), torch.ones(1, 6))
    trail.location[0, : len(cells)] = looks.location
    free = np.flatnonzero(actions.masks(trail, torch.arange(6)[None] < len(cells))[0])
    expected = set(range(grid**2)) - set(cells.tolist())
    assert set(free.tolist()) == (expected or set(range(grid**2)))


def test_grid_actions_are_the_same_patches_as_their_locations(digits, network):
    arguments = {"model": network, "images": digits, "exits": "confidence"}
    by_cell = GlanceFocusVectorEnv(4, actions="grid:cells=5", **arguments)
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
        arguments = {"model": network, "images": digits, "autoreset_mode": "SameStep"}
        return GlanceFocusVectorEnv(3, actions="grid:cells=4", focus_steps=2, **arguments)

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
    env = GlanceFocusEnv(images=digits, actions="grid:cells=3")
    env.reset(seed=0)
    observation, *_ = env.step(env.action_space.sample(env.action_masks().astype(np.int8)))
    assert env.action_masks().shape == (9,)
    assert env.action_masks().sum() == 8
    cell = np.flatnonzero(~env.action_masks())
    np.testing.assert_array_equal(observation["location"], lattice(3)[cell][0])
    check_env(gym.make("gfnet_env/GlanceFocus-v0", actions="grid:cells=3").unwrapped)


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
    env = GlanceFocusVectorEnv(2, images=digits, actions="grid:cells=3")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.action_masks().all()


@pytest.mark.parametrize(
    "actions",
    [
        *(["0.5", "0.5"], [0.5, [0.5]], None, [0.5, None]),
        *(np.array(["a", "b"]), np.zeros(2, complex)),
    ],
)
def test_actions_that_are_no_numbers_are_refused(digits, actions):
    env = GlanceFocusVectorEnv(2, images=digits)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be"):
        env.step([actions, actions])
    single = GlanceFocusEnv(images=digits)
    single.reset(seed=0)
    with pytest.raises(ValueError, match="an action's numbers must be"):
        single.step(actions)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, torch.int8])
def test_actions_may_be_tensors_of_any_kind(kind):
    read = ContinuousActions().read(torch.tensor([[1, -1], [0, 2]]).to(kind))
    assert read.tolist() == [[1, -1], [0, 1]]
    assert build_actions("grid:cells=3").read(np.array([8, 0], np.uint16)).tolist() == [8, 0]


def test_what_is_unknown_or_cannot_be_is_named(digits):
    with pytest.raises(
        ValueError, match="unknown kind of action 'polar'; known: continuous; grid:cells=7"
    ):
        GlanceFocusVectorEnv(1, images=digits, actions="polar")
    with pytest.raises(ValueError, match="at least 1 cell along each axis, not 0"):
        build_actions("grid:cells=0")
    with pytest.raises(ValueError, match="continuous actions have no masks"):
        GlanceFocusEnv(images=digits).action_masks()
    with pytest.raises(ValueError, match=r"a \(row, column\) in \[-1, 1\], not bool"):
        ContinuousActions().read(np.array([[True, False]]))
    with pytest.raises(ValueError, match="max_scale must be above 1, not 1.0"):
        build_actions("zoom:max_scale=1", patch_size=32)
    for spec in ("zoom:max_scale=1e300", "peak:reach=1e300", "grid:cells=2147483648"):
        with pytest.raises(ValueError, match="at most"):
            build_actions(spec, patch_size=32)
    with pytest.raises(ValueError, match="makes a Fraction; make Actions, such as"):
        build_actions("fractions:Fraction+stop")
    assert list(ACTIONS) == ["continuous", "grid", "peak", "zoom"]


@pytest.mark.parametrize("spec", ["continuous", "grid:cells=4", "zoom:max_scale=3.0", "zoom"])
@pytest.mark.parametrize("stop", ["", "+stop"])
def test_actions_are_made_again_by_their_spec(spec, stop):
    actions = build_actions(f"{spec}{stop}", patch_size=32)
    assert actions.spec == f"{spec}{stop}"
    assert build_actions(actions.spec, patch_size=32).space == actions.space
    assert actions.chooses_scale == spec.startswith("zoom")


def test_a_mask_leaves_the_stop_open(digits, network):
    env = GlanceFocusVectorEnv(2, images=digits, model=network, actions="grid:cells=1+stop")
    env.reset(seed=0)
    assert env.action_masks().tolist() == [[True, True]] * 2
    env.step(np.array([0, 0]))
    assert env.action_masks().tolist() == [[True, True]] * 2


def _making(make):
    class Own(BoxActions):
        def __init__(self):
            super().__init__(2)

        def looks(self, actions, state):
            return make(actions)

    return Own()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda actions: actions, ValueError, r"the actions Own must make looks, .* \(1, 2\)"),
        (lambda actions: None, ValueError, "not NoneType"),
        (lambda actions: Look.at(actions.numpy()), TypeError, "location of looks must be a tensor"),
        (lambda actions: Look.at(actions, 2.0), TypeError, "scale of looks .* not float"),
    ],
)
def test_actions_of_ones_own_make_looks(digits, make, error, message):
    envs = GlanceFocusVectorEnv(1, images=digits, actions=_making(make))
    envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.step(envs.action_space.sample())


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([3, 3]),
        spaces.Box(0, 10, (2,)),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(-1, 1, (0,)),
        spaces.Discrete(3, start=1),
    ],
)
def test_actions_are_cells_or_numbers_up_to_one(space):
    class Own(BoxActions):
        def __init__(self):
            Actions.__init__(self, space)

        def looks(self, actions, state): ...

    with pytest.raises(ValueError, match="must be a Discrete from 0, or a Box"):
        Own()


def test_values_are_clipped_to_their_own_box():
    class Half(BoxActions):
        def __init__(self):
            Actions.__init__(self, spaces.Box(0, 1, (2,)))

        def looks(self, actions, state): ...

    assert Half().read([[-1.0, 2.0]]).tolist() == [[0, 1]]


def test_unfinished_actions_are_refused():
    class Own(BoxActions):
        def __init__(self): ...

        def looks(self, actions, state): ...

    with pytest.raises(ValueError, match=r"Own has no space of actions; call super\(\).__init__"):
        build_actions(Own())
