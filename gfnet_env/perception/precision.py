"""What the encoders compute in."""

from typing import Literal, get_args

import torch

Precision = Literal["float32", "bfloat16"]

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_precision(name: str) -> None:
    """Raises ``ValueError`` unless ``name`` is a known precision."""
    if name not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"unknown precision {name!r}; known: {known}")


def precision_type(name: Precision) -> torch.dtype:
    """The type that numbers of a precision are kept in."""
    return _TYPES[name]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which torch computes in a precision wherever it deems that safe."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
