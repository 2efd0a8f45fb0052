import numpy as np
import pytest
import torch

from gfnet_env.exits import ExpectedGain, ThresholdExit, fit_gain
from gfnet_env.models import State

LOOKS = 2


def states(probabilities, number):
    """Pictures with these class probabilities after some looks."""
    count = len(probabilities)
    return State(
        logits=torch.tensor(probabilities).log(),
        number=torch.full((count,), number),
        location=torch.zeros(count, 2),
        scale=torch.ones(count),
        size=torch.full((count, 2), 64),
    )


def fitted(steps, sure, looks=LOOKS):
    """A gain that learned from pictures with class probabilities (T, N, K)."""
    torch.manual_seed(0)
    gain = ExpectedGain(num_classes=3, focus_steps=LOOKS)
    known = [gain.known(states(each, number)).numpy() for number, each in enumerate(steps)]
    sure = np.array(sure, dtype=np.float32)
    fit_gain(gain, np.stack(known, axis=1), sure, np.full(len(sure), looks))
    return gain.requires_grad_(False)


# Half of the pictures are in doubt, and only two looks together help; the others are known.
DOUBT, KNOWN = [0.4, 0.35, 0.25], [0.05, 0.05, 0.9]
STEPS = [[DOUBT, KNOWN] * 20, [DOUBT, KNOWN] * 20, [[0.9, 0.05, 0.05], KNOWN] * 20]
SURE = [[0.3, 0.3, 0.9], [0.9, 0.9, 0.9]] * 20


def test_the_best_number_of_looks_counts():
    gain = fitted(STEPS, SURE)
    glanced = gain(states(STEPS[0][:2], 0))
    # Two looks gain 0.6, that is 0.3 each.
    torch.testing.assert_close(glanced, torch.tensor([0.7, 1.0]), atol=0.03, rtol=0)
    looked = gain(states(STEPS[1][:2], 1))
    torch.testing.assert_close(looked, torch.tensor([0.4, 1.0]), atol=0.03, rtol=0)


def test_a_picture_exits_where_the_gain_is_below_the_price_of_a_look():
    gain = fitted(STEPS, SURE)
    for price, exits in ((0.2, [False, True]), (0.5, [True, True])):
        rule = ThresholdExit([1 - price] * (LOOKS + 1), gain)
        assert rule(states(STEPS[0][:2], 0)).tolist() == exits


def test_nothing_is_gained_after_the_last_look():
    gain = fitted(STEPS, SURE)
    assert gain(states(STEPS[0][:2], LOOKS)).tolist() == [1, 1]


def test_looks_that_a_policy_did_not_take_teach_nothing():
    # After a stop, a record repeats the last step.
    sure = [[0.3, 0.8, 0.8], [0.9, 0.9, 0.9]] * 20
    gain = fitted(STEPS, sure, looks=1)
    assert float(gain(states([DOUBT], 0))) == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ValueError, match="no picture was looked at"):
        fitted(STEPS, sure, looks=0)


def test_the_same_data_give_the_same_weights():
    one, other = fitted(STEPS, SURE), fitted(STEPS, SURE)
    assert all(
        torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True)
    )
