"""Digests, which identify the inputs of results that are kept for later."""

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


def digest(*parts: Any) -> str:
    """SHA-256 of some values, in the given order, as 64 hexadecimal digits.

    Args:
        parts: Numpy arrays and tensors count by type, shape and content, everything else by its
            JSON.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            _add_tensor(total, part)
        elif isinstance(part, np.ndarray):
            _add_array(total, part)
        else:
            total.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return total.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """The digest of all weights and buffers of a module, compiled or not."""
    tensors = uncompiled_state(module)
    return digest(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def uncompiled_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, under the names that it has without ``torch.compile``."""
    state = module.state_dict()
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def _add_tensor(total: Any, tensor: Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    total.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    # As bytes, since numpy lacks some of torch's types.
    total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _add_array(total: Any, array: npt.NDArray[Any]) -> None:
    total.update(f"{array.dtype} {array.shape}\n".encode())
    total.update(np.ascontiguousarray(array).data)
