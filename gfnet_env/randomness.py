"""Random numbers as a pure function of keys.

A scene must be the same picture every time, and a random policy must look at the same window of an
image regardless of the other images in the batch. A generator cannot ensure this, since its numbers
depend on the order of calls; the functions here can.
"""

import numpy as np
import numpy.typing as npt

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
    bits = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            # An int of any size is taken modulo 2^64, as arrays are.
            whole = np.uint64(key % 2**64) if isinstance(key, int) else np.asarray(key)
            words = whole.astype(np.int64).astype(np.uint64)
            bits = _mix(bits + words * _INCREMENT + _INCREMENT)
    # The 53 highest bits fill a double's mantissa exactly.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
