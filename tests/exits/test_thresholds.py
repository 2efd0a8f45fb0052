import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gfnet_env.exits.thresholds import (
    NEVER,
    exit_steps,
    geometric_shares,
    shares_for_cost,
    thresholds_for_price,
    thresholds_for_shares,
)

confidences = arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.integers(1, 5)),
    elements=st.floats(0, 1, width=32),
    unique=True,
)


@given(confidences, st.floats(0.05, 10))
def test_distinct_confidences_exit_in_the_wanted_shares(confidence, ratio):
    count, steps = confidence.shape
    shares = geometric_shares(ratio, steps)
    exits = exit_steps(confidence, thresholds_for_shares(confidence, shares))
    left = np.cumsum(np.bincount(exits, minlength=steps))
    assert (left == np.round(np.cumsum(shares) * count)).all()


@given(st.floats(0.01, 20), st.integers(1, 60))
def test_geometric_shares_add_up_and_have_their_ratio(ratio, steps):
    shares = geometric_shares(ratio, steps)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[1:] / shares[:-1], ratio, rtol=1e-6)


@given(confidences)
def test_lower_thresholds_never_exit_later(confidence):
    steps = confidence.shape[1]
    late = exit_steps(confidence, [0.9] * steps)
    early = exit_steps(confidence, [0.6] * steps)
    assert (early <= late).all()


def test_all_at_once_and_never():
    confidence = np.array([[0.5, 0.9], [0.7, 0.8]])
    assert thresholds_for_shares(confidence, [1, 0]) == [0, 0]
    assert thresholds_for_shares(confidence, [0, 1]) == [NEVER, 0]
    assert exit_steps(confidence, [NEVER, NEVER]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("confidence", "shares", "message"),
    [
        (np.ones((2, 3)), [0.5, 0.5], r"\(N, T\) and shares \(T,\)"),
        (np.ones((0, 2)), [0.5, 0.5], r"\(N, T\)"),
        (np.ones((2, 2)), [0.5, 0.6], "add up to 1"),
        (np.ones((2, 2)), [1.5, -0.5], "at least 0"),
        (np.full((2, 2), np.nan), [0.5, 0.5], "finite"),
        (np.ones((2, 2)), [np.nan, 1], "finite"),
    ],
)
def test_wrong_shares_are_refused(confidence, shares, message):
    with pytest.raises(ValueError, match=message):
        thresholds_for_shares(confidence, shares)


def test_a_ratio_must_be_positive():
    with pytest.raises(ValueError, match="ratio must be positive"):
        geometric_shares(0, 3)


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=30), st.floats(0, 1))
@example([1, 10686475], 0.0)
@example([1, 10686475], 1.0)
def test_shares_for_a_cost_have_it(increments, position):
    costs = np.cumsum(increments)
    cost = costs[0] + position * (costs[-1] - costs[0])
    shares = shares_for_cost(min(cost, costs[-1]), costs)
    assert shares.sum() == pytest.approx(1)
    assert shares @ costs == pytest.approx(cost, rel=1e-6)


def test_the_ends_of_the_range_are_exact():
    costs = [1, 10686476, 2 * 10686476]
    assert shares_for_cost(costs[0], costs).tolist() == [1, 0, 0]
    assert shares_for_cost(costs[-1], costs).tolist() == [0, 0, 1]
    assert shares_for_cost(5, [5, 5]).tolist() == [1, 0]


@pytest.mark.parametrize("cost", [0.9, 3.1, float("nan")])
def test_a_cost_that_no_shares_have_is_refused(cost):
    with pytest.raises(ValueError, match="no exits cost"):
        shares_for_cost(cost, [1, 2, 3])


@given(st.integers(0, 1000), st.floats(0, 2))
def test_no_thresholds_are_worth_more_than_those_searched(seed, price):
    rng = np.random.default_rng(seed)
    confidence = rng.random((8, 2))
    correct = rng.random((8, 2)) < confidence
    costs = np.array([1.0, 2.0])

    def worth(thresholds):
        exits = exit_steps(confidence, thresholds)
        rows = np.arange(len(exits))
        return correct[rows, exits].mean() - price * costs[exits].mean()

    # With a single threshold every choice there is can be tried.
    tried = max(worth([threshold, 0]) for threshold in [0.0, NEVER, *confidence[:, 0]])
    assert worth(thresholds_for_price(confidence, correct, costs, price)) == pytest.approx(tried)


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(2, 5))
def test_changing_one_searched_threshold_gains_nothing(seed, price, steps):
    rng = np.random.default_rng(seed)
    confidence = rng.random((30, steps))
    correct = rng.random((30, steps)) < confidence
    costs = 1.0 + np.arange(steps)

    def worth(thresholds):
        exits = exit_steps(confidence, thresholds)
        rows = np.arange(len(exits))
        return correct[rows, exits].mean() - price * costs[exits].mean()

    found = thresholds_for_price(confidence, correct, costs, price)
    for step in range(steps - 1):
        for other in [0.0, NEVER, *confidence[:, step]]:
            changed = [*found[:step], other, *found[step + 1 :]]
            assert worth(changed) <= worth(found) + 1e-9


def test_what_costs_nothing_is_bought_and_what_costs_too_much_is_not():
    confidence = np.array([[0.5, 0.9], [0.7, 0.8]])
    correct = np.array([[False, True], [False, True]])
    assert thresholds_for_price(confidence, correct, [1, 2], 0.0) == [NEVER, 0]
    assert thresholds_for_price(confidence, correct, [1, 2], 5.0) == [0, 0]


def test_numbers_that_mean_nothing_are_refused():
    confidence, correct = np.full((3, 2), 0.5), np.ones((3, 2), dtype=bool)
    for ratio in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match="ratio must be positive"):
            geometric_shares(ratio, 3)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        geometric_shares(1.0, 0)
    for costs in ([], [2, 1], [1, np.nan, 3], 3):
        with pytest.raises(ValueError, match="step_costs must be numbers that rise"):
            shares_for_cost(2, costs)
    with pytest.raises(ValueError, match="shares must be numbers, not"):
        thresholds_for_shares(confidence, ["a", "b"])
    for price in (np.nan, -1.0):
        with pytest.raises(ValueError, match="price must be"):
            thresholds_for_price(confidence, correct, [1, 2], price)
    with pytest.raises(ValueError, match=r"confidence and correct must be \(N, T\)"):
        thresholds_for_price(confidence, correct[:, :1], [1, 2], 0.1)
    for thresholds in ([0.5], [0.5] * 3):
        with pytest.raises(ValueError, match="2 thresholds are needed"):
            exit_steps(confidence, thresholds)
