"""Arrays of numbers from what callers give."""

import reprlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def as_array(given: Any, name: str) -> npt.NDArray[Any]:
    """An array of anything that holds numbers or bools: an array, a tensor, a number, lists.

    Torch can share its memory; it is a copy of an array that is read-only or reversed.

    Args:
        given: What a caller gave.
        name: What it is, in the plural, for messages.

    Raises:
        ValueError: It holds anything else, or its rows differ in length.
    """
    try:
        if isinstance(given, Tensor):
            given = given.detach().cpu()
            # Numpy has no such type.
            given = given.float() if given.dtype == torch.bfloat16 else given
        array = np.asarray(given)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, not {reprlib.repr(given)}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, not {reprlib.repr(given)} ({array.dtype})")
    # Torch has no other order of bytes, and no larger floats.
    native = array.dtype.newbyteorder("=")
    array = array.astype(np.float64 if native == np.longdouble else native, copy=False)
    shared = array.flags.writeable and min(array.strides, default=0) >= 0
    return array if shared else array.copy()
