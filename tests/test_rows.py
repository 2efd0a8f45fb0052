from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from gfnet_env import rows


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Leaf:
    values: Tensor
    nothing: Tensor | None = None


def tree(start, count=4):
    numbers = torch.arange(start, start + count)
    return {
        "dataclass": Leaf(numbers),
        "pair": Pair(numbers, numbers.float().view(-1, 1)),
        "list": [numbers, (numbers,)],
    }


def numbers(found):
    return [tensor.flatten().tolist() for tensor in rows.tensors(found)]


@pytest.mark.parametrize("chosen", [torch.tensor([2, 0]), torch.tensor([True, False, True, False])])
def test_rows_are_selected_in_every_tensor_and_structure_stays(chosen):
    found = rows.select(tree(0), chosen)
    assert numbers(found) == [torch.arange(4)[chosen].tolist()] * 5
    assert isinstance(found["dataclass"], Leaf)
    assert found["dataclass"].nothing is None
    assert isinstance(found["pair"], Pair)
    assert isinstance(found["list"][1], tuple)


def test_rows_are_put_into_a_copy():
    before = tree(0)
    after = rows.put(before, torch.tensor([3, 1]), tree(10, count=2))
    assert numbers(after) == [[0, 11, 2, 10]] * 5
    assert numbers(before) == [[0, 1, 2, 3]] * 5


def test_rows_of_several_trees_are_concatenated():
    assert numbers(rows.concatenate([tree(0, 2), tree(7, 1)])) == [[0, 1, 7]] * 5


def test_gradients_go_through_rows():
    values = torch.arange(3.0, requires_grad=True)
    chosen = rows.select(Leaf(values), torch.tensor([1]))
    rows.put(Leaf(values), torch.tensor([0]), chosen).values.sum().backward()
    assert values.grad.tolist() == [0, 2, 1]


def test_what_is_shared_has_no_rows():
    shared = rows.Shared("anything")
    found = rows.select({"shared": shared, "own": torch.arange(3)}, torch.tensor([2]))
    assert found["shared"] is shared
    assert found["own"].tolist() == [2]


def test_trees_move_to_a_device():
    moved = rows.to_device(tree(0), "meta")
    assert {tensor.device.type for tensor in rows.tensors(moved)} == {"meta"}


def test_what_has_no_rows_is_named():
    with pytest.raises(TypeError, match="not set"):
        rows.select({"state": {1, 2}}, torch.tensor([0]))
    with pytest.raises(ValueError, match="shorter"):
        rows.concatenate([[torch.zeros(1)] * 2, [torch.zeros(1)]])
