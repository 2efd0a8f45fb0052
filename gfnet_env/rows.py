"""Operations on rows of nested tensors: pictures leave and join batches only here.

A *tree* is a tensor; a dataclass, dict, tuple or list of trees; or None. All its tensors have one
row per picture; a ``Shared`` value belongs to all pictures.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


class Shared:
    """A value without rows, of any type."""

    def __init__(self, value: Any) -> None:
        self.value = value


def select(tree: Tree, rows: Tensor) -> Tree:
    """Select some rows, by indices (R,) int64 or by a mask (B,) bool."""
    return map_tensors(lambda tensor: tensor[rows], tree)


def put(tree: Tree, rows: Tensor, other: Tree) -> Tree:
    """A copy in which the R rows of ``other`` replace the rows at the indices ``rows``, (R,)."""
    return map_tensors(lambda tensor, new: tensor.index_put((rows,), new), tree, other)


def concatenate(trees: Sequence[Tree]) -> Tree:
    """The rows of several trees of the same structure, in order."""
    return map_tensors(lambda *tensors: torch.cat(tensors), *trees)


def to_device(tree: Tree, device: torch.device | str) -> Tree:
    """A copy on a device."""
    return map_tensors(lambda tensor: tensor.to(device), tree)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors, in order."""
    found: list[Tensor] = []
    map_tensors(lambda tensor: found.append(tensor), tree)
    return found


def map_tensors(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to each tensor and the tensors at the same place in other trees.

    Raises:
        TypeError: The tree holds a value of another type.
    """
    if tree is None or isinstance(tree, Shared):
        return tree
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in dataclasses.fields(tree)]
        columns = [[getattr(each, name) for each in (tree, *others)] for name in names]
        parts = (map_tensors(function, *column) for column in columns)
        return type(tree)(**dict(zip(names, parts, strict=True)))
    if isinstance(tree, dict):
        return {
            key: map_tensors(function, *(each[key] for each in (tree, *others))) for key in tree
        }
    if isinstance(tree, tuple | list):
        items = [map_tensors(function, *each) for each in zip(tree, *others, strict=True)]
        # The constructor of a named tuple takes its fields one by one.
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    raise TypeError(
        f"a state, or what a policy remembers, may hold tensors, dataclasses, dicts, tuples and "
        f"lists of such, not {type(tree).__name__}"
    )
