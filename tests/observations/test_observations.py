import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.models import blank_state
from gfnet_env.observations import (
    OBSERVATIONS,
    FlatView,
    MapsObservation,
    PlainObservation,
    observation_space,
)

_SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)


@given(st.dictionaries(st.sampled_from("abcd"), _SHAPES, min_size=1), st.integers(0, 4))
def test_a_flat_view_loses_nothing(shapes, batch):
    parts = spaces.Dict(
        {key: spaces.Box(-1, n, shape) for n, (key, shape) in enumerate(shapes.items(), 1)}
    )
    view = FlatView(parts)
    rng = np.random.default_rng(0)
    observations = {
        key: rng.random((batch, *shape), dtype=np.float32) for key, shape in shapes.items()
    }
    flat = view.flatten(observations)
    assert flat.shape == (batch, *view.space.shape)
    assert all(view.space.contains(row) for row in flat)
    for row in range(batch):
        alone = view.flatten({key: value[row] for key, value in observations.items()})
        np.testing.assert_array_equal(alone, flat[row])
    again = view.split(torch.from_numpy(flat))
    assert set(again) == set(observations)
    for key, value in again.items():
        np.testing.assert_array_equal(value, observations[key])


def test_the_bounds_are_those_of_the_parts(tiny_network):
    parts = observation_space(MapsObservation(2), tiny_network)
    view = FlatView(parts)
    low = view.split(torch.from_numpy(view.space.low)[None])
    for key, part in parts.items():
        np.testing.assert_array_equal(low[key][0], part.low)


def test_spaces_hold_what_is_shown(tiny_network):
    for observation in (MapsObservation(2), MapsObservation(2, scale=True), PlainObservation()):
        space = observation_space(observation, tiny_network)
        shown = observation(blank_state(tiny_network, 3))
        assert list(space) == sorted(shown) or set(space) == set(shown)
        for row in range(3):
            one = {key: value[row].numpy() for key, value in shown.items()}
            assert space.contains(one)


@pytest.mark.parametrize("side", [0, 2, 1001, 2**31 - 1])
def test_a_side_that_no_map_can_have_is_refused(side):
    with pytest.raises(ValueError, match=f"side must be .*, not {side}"):
        OBSERVATIONS.build(f"peak:side={side}", focus_steps=2)
