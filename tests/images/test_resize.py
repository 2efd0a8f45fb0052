import pytest
import torch
from torch.nn import functional

from gfnet_env.images import resize as module
from gfnet_env.images.resize import resize
from gfnet_env.looks import ViewConfig


def view(interpolation="bilinear", antialias=True):
    return ViewConfig(size=1, interpolation=interpolation, antialias=antialias)


@pytest.fixture(params=["planes", "as decoded"])
def images(request):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 61, 45), dtype=torch.uint8, generator=generator)
    decoded = request.param == "as decoded"
    return pixels.to(memory_format=torch.channels_last) if decoded else pixels


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [16, 45, 80])
def test_in_bands_as_in_one_go(images, size, interpolation, monkeypatch):
    whole = resize(images, (size, size), view(interpolation))
    expected = functional.interpolate(images, (size, size), mode=interpolation, antialias=True)
    assert torch.equal(whole, expected)
    monkeypatch.setattr(module, "_BAND_BYTES", 1000)
    assert torch.equal(resize(images.contiguous(), (size, size), view(interpolation)), whole)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_floats_in_bands_agree_to_a_level(images, interpolation, monkeypatch):
    whole = resize(images, (16, 16), view(interpolation, antialias=False))
    monkeypatch.setattr(module, "_BAND_BYTES", 1000)
    banded = resize(images, (16, 16), view(interpolation, antialias=False))
    assert (whole.int() - banded.int()).abs().max() <= 1


def test_what_has_the_size_is_left_alone():
    images = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    assert resize(images, (20, 20), view()) is images


def test_no_image_is_no_special_case():
    images = torch.zeros(0, 3, 20, 20, dtype=torch.uint8)
    assert resize(images, (8, 8), view(antialias=False)).shape == (0, 3, 8, 8)
