"""Random numbers as a pure function of keys.

A scene must be the same picture every time, and a random policy must look at the same window of an
image regardless of the other images in the batch. A generator cannot ensure this, since its numbers
depend on the order of calls; the functions here can.
"""

import numpy as np
import numpy.typing as npt

# Rounds of a Feistel network.
_ROUNDS = 6
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MULTIPLIERS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MULTIPLIERS[1]
    return bits ^ (bits >> np.uint64(31))


def uniform(*keys: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform random numbers in [0, 1), one for every combination of keys.

    Args:
        keys: Integers or integer arrays that broadcast against each other; the result has their
            broadcast shape. Equal keys give equal numbers, on every machine.
    """
    # The 53 highest bits fill a double's mantissa exactly.
    return (_hash(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permuted(places: npt.NDArray[np.int64], count: int, key: int) -> npt.NDArray[np.int64]:
    """What stands at some places of a random order of ``range(count)``, without making all of it.

    A Feistel network (Luby and Rackoff, SIAM Journal on Computing, 1988) on the next larger power
    of four, applied again to what lies beyond ``count`` (cycle walking: Black and Rogaway, CT-RSA
    2002).

    Args:
        places: Any shape, in [0, ``count``).
        count: At least 1.
        key: Other keys give other orders.
    """
    half = np.uint64((max(count - 1, 1).bit_length() + 1) // 2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    found = places.astype(np.uint64)
    walking = np.ones(found.shape, dtype=np.bool_)
    while walking.any():
        left, right = found[walking] >> half, found[walking] & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_hash(key, number, right) & mask)
        found[walking] = left << half | right
        walking = found >= count
    return found.astype(np.int64)


def _hash(*keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Random bits for every combination of keys, see ``uniform``."""
    bits = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            # An int of any size is taken modulo 2^64, as arrays are.
            whole = np.uint64(key % 2**64) if isinstance(key, int) else np.asarray(key)
            words = whole.astype(np.int64).astype(np.uint64)
            bits = _mix(bits + words * _INCREMENT + _INCREMENT)
    return bits
