import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.benchmarks import expected_calibration_error, mean_interval


def test_an_interval_is_as_wide_as_theory_says():
    right = np.random.default_rng(0).random(1000) < 0.8
    low, high = mean_interval(right)
    assert low < right.mean() < high
    error = np.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_intervals_repeat_with_their_seed():
    right = np.random.default_rng(0).random(50) < 0.8
    assert mean_interval(right, seed=1) == mean_interval(right, seed=1)
    assert mean_interval(right, seed=1) != mean_interval(right, seed=2)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_intervals_hold_the_mean(values):
    values = np.array(values)
    low, high = mean_interval(values)
    assert 0 <= low <= values.mean() <= high <= 1
    if values.all() or not values.any():
        assert low == high


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_values_that_are_no_list_are_refused(values):
    with pytest.raises(ValueError, match=r"values must be \(N,\)"):
        mean_interval(values)


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.55, 1.0])
    correct = np.array([True, True, True, False, True, True])
    # The last of ten bins holds five images, sure of 4.6 and right four times; one more is at 0.55.
    gaps = abs(4.6 - 4) + abs(0.55 - 1)
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(gaps / 6)


def test_honest_confidences_have_no_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    correct = rng.random(200_000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.01
    assert expected_calibration_error(confidence, ~correct) > 0.4
