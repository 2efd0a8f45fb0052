import copy

import torch
from torch import nn

from gfnet_env.perception.encoders import build_encoder
from gfnet_env.perception.precision import autocast, see_in_float32

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
