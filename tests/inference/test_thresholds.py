import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gfnet_env.inference import NEVER, exit_steps, geometric_shares, thresholds_for_shares

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


@given(st.floats(0.01, 20), st.integers(1, 8))
def test_geometric_shares_add_up_and_have_their_ratio(ratio, steps):
    shares = geometric_shares(ratio, steps)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[1:] / shares[:-1], ratio)


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
