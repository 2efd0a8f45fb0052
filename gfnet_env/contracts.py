"""Check what a part returns, which may be a user's own; explain what other libraries raise."""

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class NotImportedError(ValueError):
    """A file names a part in a module that it may not import; the message says what to do."""


@contextlib.contextmanager
def explained(problem: str, advice: str = "") -> Iterator[None]:
    """Turns any error into a ``ValueError``: other libraries raise dozens of kinds."""
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            # Torch's own reason advises to run the code.
            reason = "it holds more than tensors and plain values; loading those would run code"
        elif isinstance(error, KeyError):
            reason = f"there is no {reason}"
        if isinstance(error, NotImportedError):
            # The file is as it should be.
            advice = ""
        raise ValueError(f"{problem}: {reason}{advice}") from error


def name_of(part: object) -> str:
    """The name of a function, or else of an object's class."""
    return str(getattr(part, "__name__", type(part).__name__))


def described(value: Any) -> str:
    """A tensor's shape and type, or else the name of a value's class, for messages."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    return type(value).__name__


def one_per_image(value: Any, count: int, who: str, dtype: torch.dtype | None = None) -> Tensor:
    """Check that a value is a tensor with one number per image.

    Args:
        value: What a part returned.
        count: Number of images, B.
        who: The part, for messages.
        dtype: The type that the tensor must have; None allows all but complex numbers.

    Raises:
        ValueError: It is no tensor (B,), or has another type.
    """
    fits = isinstance(value, Tensor) and value.shape == (count,)
    if not fits or (value.is_complex() if dtype is None else value.dtype != dtype):
        kind = "" if dtype is None else f" {str(dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{who} must be a tensor ({count},){kind}, one per image, not {described(value)}"
        )
    checked: Tensor = value
    return checked
