import numpy as np
import pytest

from gfnet_env.env.doubt import Doubt


def shares(doubt, count, draws=20_000):
    rng = np.random.default_rng(0)
    drawn = np.bincount([doubt.draw(rng) for _ in range(draws)], minlength=count)
    return drawn / draws


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_images_are_drawn_in_proportion_to_their_doubt(count):
    doubts = np.linspace(0, 1, count + 1)[1:]
    doubt = Doubt(count)
    doubt.learn(np.arange(count), doubts)
    assert shares(doubt, count) == pytest.approx(doubts / doubts.sum(), abs=0.015)


def test_what_is_not_known_counts_as_much_as_the_mean():
    doubt = Doubt(6)
    assert shares(doubt, 6) == pytest.approx(np.full(6, 1 / 6), abs=0.015)
    doubt.learn(np.array([4, 1, 4]), np.array([0.9, 0.1, 0.9]))
    expected = np.array([0.5, 0.1, 0.5, 0.5, 0.9, 0.5])
    assert shares(doubt, 6) == pytest.approx(expected / expected.sum(), abs=0.015)
    doubt.learn(np.array([4]), np.array([0.0]))
    assert shares(doubt, 6)[4] == 0


@pytest.mark.parametrize("known", [2, 5])
def test_without_any_doubt_all_are_equally_likely(known):
    doubt = Doubt(5)
    doubt.learn(np.arange(known), np.zeros(known))
    drawn = shares(doubt, 5)
    assert drawn.max() < 0.5
    # Those that are not known may still be worth it.
    assert (drawn[known:] > 0.15).all()


def test_it_goes_on_from_its_state():
    doubt, again = Doubt(7), Doubt(7)
    doubt.learn(np.array([6, 2, 3]), np.array([0.3, 0.7, 0.0]))
    again.load_state_dict(doubt.state_dict())
    rngs = [np.random.default_rng(1) for _ in range(2)]
    for _ in range(50):
        drawn = [each.draw(rng) for each, rng in zip((doubt, again), rngs, strict=True)]
        assert drawn[0] == drawn[1]
        for each in (doubt, again):
            each.learn(np.array(drawn[:1]), np.array([0.1 * drawn[0]]))


def test_the_last_that_is_not_known_may_be_seen_twice_at_once():
    doubt = Doubt(2)
    doubt.learn(np.array([1, 0, 1]), np.array([0.2, 0.6, 0.2]))
    assert shares(doubt, 2) == pytest.approx([0.75, 0.25], abs=0.015)
