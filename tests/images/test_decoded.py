import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_env.images import open_folder
from gfnet_env.images.base import cut_one
from gfnet_env.images.decoded import Decoded
from gfnet_env.looks import Look, ViewConfig

VIEWS = [
    ViewConfig(size=96),
    ViewConfig(size=96, interpolation="bicubic"),
    ViewConfig(size=96, antialias=False),
    ViewConfig(size=96, interpolation="bicubic", align_corners=True, antialias=False),
]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("pixels", [noise(1301, 1203, 3), noise(2300, 1900), noise(61, 400, 3)])
def test_parts_of_a_decoded_picture_are_those_of_its_pixels(view, pixels):
    decoded = Decoded(Image.fromarray(pixels))
    whole = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    assert decoded.shape == whole.shape
    assert decoded.nbytes == whole.nbytes
    assert torch.equal(decoded.pixels(), whole)
    height, width = whole.shape[1:]
    for box in [(0, 0, height, width), (1, 2, height - 3, width), (9, 7, 57, 71)]:
        for shape in [(96, 96), (48, 64), (3000, 40), (1, 1), (height, width)]:
            expected = cut_one(whole, box, shape, view)
            assert torch.equal(decoded.cut(box, shape, view), expected)


def test_only_what_is_seen_is_copied():
    decoded = Decoded(Image.fromarray(noise(2000, 2000, 3)))
    tracemalloc.start()
    decoded.cut((0, 0, 2000, 2000), (96, 96), VIEWS[0])
    decoded.cut((50, 50, 146, 146), (96, 96), VIEWS[0])
    assert tracemalloc.get_traced_memory()[1] < decoded.nbytes / 10
    decoded.pixels()
    assert tracemalloc.get_traced_memory()[1] > decoded.nbytes
    tracemalloc.stop()


def test_a_folder_shows_the_same_pixels_kept_or_not(tmp_path):
    for split in ("train", "test"):
        for name, pixels in (("a", noise(1500, 1400, 3)), ("b", noise(40, 50))):
            path = tmp_path / split / name / "0.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    kept, dropped = (open_folder(tmp_path, "test", memory_limit=each) for each in (2**30, 0))
    looks = Look.at(torch.tensor([[-1.0, 0.3], [1.0, -0.2]]), torch.tensor([20.0, 1.0]))
    for _ in range(2):
        assert torch.equal(kept.overview([0, 1], 32), dropped.overview([0, 1], 32))
        assert torch.equal(kept.window([0, 1], looks, 32), dropped.window([0, 1], looks, 32))
        assert torch.equal(kept.picture(0), dropped.picture(0))
