"""Random numbers that are a pure function of their keys.

A scene is the same picture whenever it is asked for, and a random policy looks at the same patch of
an image however many other images share its batch. Neither can come from a generator whose numbers
depend on the order of the calls, so both come from here.
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
    """Uniform numbers in [0, 1), one for every combination of keys.

    Args:
        keys: Integers or integer arrays that broadcast against each other; the result has their
            broadcast shape. Equal keys give equal numbers, on every machine.
    """
    bits = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            words = np.asarray(key).astype(np.int64).astype(np.uint64)
            bits = _mix(bits + words * _INCREMENT + _INCREMENT)
    # The 53 highest bits fill a double's mantissa exactly.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
