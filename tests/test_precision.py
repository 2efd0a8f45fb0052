import copy

import pytest
import torch
from torch import nn

from gfnet_env.encoders import build_encoder
from gfnet_env.precision import autocast, see_in_float32, with_weights_in

CPU = torch.device("cpu")


def first_outputs(encoder, images):
    """What the first two convolutions of a compact encoder make of images, under autocast."""
    found = []
    hooks = [
        block[0].register_forward_hook(lambda module, inputs, output: found.append(output))
        for block in encoder.blocks[:2]
    ]
    with torch.no_grad(), autocast(CPU, "bfloat16"):
        encoder(images)
    for hook in hooks:
        hook.remove()
    return found


def test_pixels_are_seen_in_full_precision():
    torch.manual_seed(0)
    encoder = build_encoder("compact", 10).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    first, second = first_outputs(encoder, images)
    assert first.dtype == torch.float32
    assert second.dtype == torch.bfloat16
    with torch.no_grad():
        normalised = (images - encoder.mean) / encoder.std
        torch.testing.assert_close(first, encoder.blocks[0][0](normalised))


def test_a_copy_has_weights_of_its_own():
    torch.manual_seed(0)
    encoder = build_encoder("compact", 10).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    before = encoder(images).vector
    other = copy.deepcopy(encoder)
    nn.init.zeros_(other.blocks[0][0].weight)
    assert not torch.equal(other(images).vector, before)
    assert torch.equal(encoder(images).vector, before)


def test_other_types_stay_as_they_are():
    encoder = build_encoder("compact", 10).double()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert encoder(images).vector.dtype == torch.float64
    see_in_float32(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["compact", "mobilenetv3_small_050"])
def test_converted_weights_give_the_same_to_the_bit(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, 10).eval().to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    weights = copy.deepcopy(encoder.state_dict())
    converted = with_weights_in(encoder, "bfloat16")
    with torch.no_grad(), autocast(CPU, "bfloat16"):
        for found, wanted in zip(converted(images), encoder(images), strict=True):
            assert torch.equal(found, wanted)
    kept = {value.dtype for value in converted.state_dict().values()}
    assert {torch.bfloat16, torch.float32} <= kept
    for key, value in encoder.state_dict().items():
        assert value.dtype == weights[key].dtype
        assert torch.equal(value, weights[key])


def test_float32_is_the_network_itself():
    encoder = build_encoder("compact", 10)
    assert with_weights_in(encoder, "float32") is encoder


@pytest.mark.parametrize(("capabilities", "expected"), [({"avx512_bf16": True}, True), ({}, False)])
def test_auto_is_bfloat16_where_there_are_instructions_for_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with autocast(CPU, "auto"):
        assert torch.is_autocast_enabled("cpu") == expected
