import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.randomness import permuted, uniform

keys = st.integers(-(2**63), 2**63 - 1)


@given(keys, keys)
def test_equal_keys_give_equal_numbers_in_the_unit_interval(seed, index):
    number = uniform(seed, index)
    assert 0 <= number < 1
    assert number == uniform(seed, np.array([index]))[0]


def test_numbers_do_not_depend_on_their_neighbours():
    together = uniform(3, np.arange(10)[:, None], np.arange(4))
    assert together.shape == (10, 4)
    assert (together[7] == uniform(3, 7, np.arange(4))).all()


def test_known_numbers_stay_the_same():
    # Scenes and random patches of published results hang on these.
    assert uniform(0, 0) == 0.6524484863740322
    assert uniform(7, 123, 2) == 0.5400684685165726


def test_numbers_are_uniform_and_neighbouring_keys_independent():
    draws = uniform(1, np.arange(20_000)[:, None], np.arange(2))
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert abs(counts / 2000 - 1).max() < 0.1
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.03


def test_order_of_keys_matters():
    assert uniform(1, 2) != uniform(2, 1)


def test_keys_of_any_size_are_taken_modulo_two_to_the_64():
    assert uniform(2**64 + 5, 3) == uniform(5, 3)
    assert uniform(-1) == uniform(2**64 - 1) == uniform(np.array(-1))
    assert uniform(10**30) != uniform(10**30 + 1)


@given(st.integers(1, 3000), keys)
def test_an_order_holds_everything_once(count, key):
    order = permuted(np.arange(count), count, key)
    assert (np.sort(order) == np.arange(count)).all()
    some = np.arange(count)[::7]
    assert (permuted(some, count, key) == order[::7]).all()


def test_everything_comes_first_equally_often():
    first = [int(permuted(np.array([0]), 5, key)[0]) for key in range(2000)]
    assert abs(np.bincount(first) / 400 - 1).max() < 0.15


def test_orders_of_different_keys_are_independent():
    one, other = (permuted(np.arange(10_000), 10_000, key) for key in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one, np.arange(10_000))[0, 1]) < 0.03
