import numpy as np
import pytest
import torch

from gfnet_env.arrays import as_array


@pytest.mark.parametrize(
    "given",
    [
        *([1, 2], (1.0, 2.0), range(1, 3), np.array([1, 2], np.uint16)),
        *(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor([1, 2])),
        torch.tensor([1.0, 2.0], requires_grad=True),
    ],
)
def test_numbers_of_any_kind_make_an_array(given):
    assert as_array(given, "numbers").tolist() == [1, 2]


@pytest.mark.filterwarnings("error")
def test_torch_can_share_any_array():
    numbers = np.arange(3)
    numbers.flags.writeable = False
    assert torch.as_tensor(as_array(numbers, "numbers")).tolist() == [0, 1, 2]
    assert torch.as_tensor(as_array(np.arange(3)[::-1], "numbers")).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "given",
    [
        *("1", ["1"], [1, [2]], None, {1}, object(), 1j, [10**400]),
        *(torch.zeros(2, device="meta"), torch.zeros(2).to_sparse()),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(given):
    with pytest.raises(ValueError, match="thresholds must be numbers, not "):
        as_array(given, "thresholds")
