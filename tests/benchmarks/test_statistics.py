import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.benchmarks.statistics import (
    expected_calibration_error,
    interquartile_mean,
    interquartile_mean_interval,
    mean_interval,
    probability_of_improvement,
)


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


def test_copies_of_an_image_do_not_narrow_an_interval():
    right = np.random.default_rng(0).random(100) < 0.8
    copies = np.repeat(right, 10)
    narrow = np.subtract(*mean_interval(copies))
    wide = np.subtract(*mean_interval(copies, groups=np.repeat(np.arange(100), 10)))
    assert wide / narrow == pytest.approx(np.sqrt(10), rel=0.15)
    assert mean_interval(right, groups=np.arange(100)) == mean_interval(right)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(3, int), r"groups must be \(4,\)"),
        (np.ones(4, int), "all values belong to one group"),
    ],
)
def test_groups_that_say_nothing_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(np.array([0, 1, 1, 0]), groups=groups)


def test_the_best_and_the_worst_runs_do_not_move_the_interquartile_mean():
    assert interquartile_mean(np.array([-100, 1.0, 2, 3, 4, 1000, 2, 3])) == pytest.approx(2.5)


def test_the_probability_of_improvement_counts_pairs():
    ours, theirs = np.array([0.9, 0.7, 0.5]), np.array([0.6, 0.5])
    # Of the six pairs four are won and one is a tie.
    assert probability_of_improvement(ours, theirs) == pytest.approx(4.5 / 6)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1.5 / 6)


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


def test_the_interval_of_the_interquartile_mean_is_its_own():
    scores = np.repeat([0.95, 0.05], [28, 12])
    low, high = interquartile_mean_interval(scores)
    # The mean, 0.68, has one that ends below what it is of.
    assert low < interquartile_mean(scores) < high
    assert mean_interval(scores)[1] < interquartile_mean(scores)
    assert interquartile_mean_interval(scores) == (low, high)
    assert interquartile_mean_interval(np.array([0.9])) is None
