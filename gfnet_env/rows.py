"""Rows of nested tensors: the one place where images leave a batch, join it or change places.

A *tree* is a tensor, a dataclass, a dict, a tuple or a list of trees, or None. All tensors of a
tree have one row for each image; what is ``Shared`` is the same for all.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


class Shared:
    """What has no rows.

    Attributes:
        value: Anything.
    """

    def __init__(self, value: Any) -> None:
        self.value = value


def select(tree: Tree, rows: Tensor) -> Tree:
    """Some rows; ``rows`` holds indices (R,) int64 or a mask (B,) bool."""
    return map_tensors(lambda tensor: tensor[rows], tree)


def put(tree: Tree, rows: Tensor, other: Tree) -> Tree:
    """A copy in which ``rows`` (indices, (R,)) are those of ``other`` (R rows)."""
    return map_tensors(lambda tensor, new: tensor.index_put((rows,), new), tree, other)


def concatenate(trees: Sequence[Tree]) -> Tree:
    """The rows of several trees of one structure, one after the other."""
    return map_tensors(lambda *tensors: torch.cat(tensors), *trees)


def to_device(tree: Tree, device: torch.device | str) -> Tree:
    """The same on a device."""
    return map_tensors(lambda tensor: tensor.to(device), tree)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors, in order."""
    found: list[Tensor] = []
    map_tensors(lambda tensor: found.append(tensor), tree)
    return found


def map_tensors(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of what a function makes of each tensor, and of those in the same place of others.

    Raises:
        TypeError: There is something else in the tree.
    """
    if tree is None or isinstance(tree, Shared):
        return tree
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(
            **{
                field.name: map_tensors(
                    function,
                    getattr(tree, field.name),
                    *(getattr(other, field.name) for other in others),
                )
                for field in dataclasses.fields(tree)
            }
        )
    if isinstance(tree, dict):
        return {
            key: map_tensors(function, value, *(other[key] for other in others))
            for key, value in tree.items()
        }
    if isinstance(tree, tuple | list):
        parts = [map_tensors(function, *each) for each in zip(tree, *others, strict=True)]
        # A named tuple takes its fields one by one.
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    raise TypeError(
        f"a state may hold tensors, dataclasses, dicts, tuples and lists of such, not "
        f"{type(tree).__name__}"
    )
