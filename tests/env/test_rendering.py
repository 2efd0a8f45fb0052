import numpy as np
import pytest
import torch
from torch.nn import functional

from gfnet_env import ArrayImages
from gfnet_env.env.rendering import COLOURS, draw_looks
from gfnet_env.images import DatasetImages
from gfnet_env.looks import Look, ViewConfig

NO_LOOKS = Look.at(torch.zeros(0, 2))


def drawn(images, index=0):
    frame = draw_looks(images, index, NO_LOOKS, ViewConfig(size=8), "caption")
    return frame[:-22]


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(300, 900), (1000, 256)])
def test_small_pictures_of_any_shape_are_drawn_pixel_by_pixel(size):
    pixels = noise(*size)
    mixed = DatasetImages([(noise(20, 20), 0), (pixels, 0)])
    assert np.array_equal(drawn(mixed, 1), pixels)
    assert np.array_equal(drawn(ArrayImages(pixels.transpose(2, 0, 1)[None])), pixels)


def test_tiny_pictures_are_enlarged():
    pixels = noise(100, 200)
    larger = pixels.repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(drawn(DatasetImages([(pixels, 0)])), larger)


def test_large_pictures_are_reduced_in_their_shape():
    pixels = noise(1200, 2048)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = functional.interpolate(whole, (600, 1024), mode="bilinear", antialias=True)
    frame = drawn(DatasetImages([(pixels, 0)]))
    assert np.array_equal(frame, expected[0].permute(1, 2, 0).numpy())


def test_normalised_pictures_span_all_levels():
    pixels = torch.linspace(-3, 2, 3 * 256 * 300).view(1, 3, 256, 300)
    frame = drawn(ArrayImages(pixels, normalised=True))
    assert frame.shape == (256, 300, 3)
    assert (frame.min(), frame.max()) == (0, 255)


def test_windows_at_one_place_are_both_seen():
    images = ArrayImages(np.zeros((1, 3, 256, 256), dtype=np.uint8))
    same = Look.at(torch.zeros(2, 2))
    frame = draw_looks(images, 0, same, ViewConfig(size=64), "caption")
    seen = {"#{:02X}{:02X}{:02X}".format(*colour) for colour in frame[128].tolist()}
    assert set(COLOURS[:2]) <= seen
    # Even if there is no room for the second one.
    draw_looks(images, 0, same, ViewConfig(size=1), "caption")
