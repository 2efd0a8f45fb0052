import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.images import Clutter, ClutteredScenes, Subset

SCANS = np.random.default_rng(0).integers(100, 256, (30, 8, 8), dtype=np.uint8)
LABELS = np.arange(30) % 10
CLUTTER = Clutter(canvas=48, digit=12, pieces=3, piece=6)


def scenes(clutter=CLUTTER, count=50, seed=0, split=0):
    return ClutteredScenes(SCANS, LABELS, clutter, scenes=count, seed=seed, split=split)


def test_the_same_scene_is_the_same_picture_however_it_is_asked_for():
    images = scenes()
    alone = images[[7]][0]
    assert torch.equal(alone, images[[1, 7, 3]][1])
    assert torch.equal(alone, scenes(count=500)[[7]][0])
    assert not torch.equal(alone, images[[8]][0])


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": 1}])
def test_other_seeds_and_splits_have_other_pictures(other):
    differing = (scenes()[range(50)] != scenes(**other)[range(50)]).flatten(1).any(dim=1)
    assert differing.all()


def test_scenes_of_one_source_share_their_digit():
    images = scenes(Clutter(canvas=48, digit=12, pieces=0, piece=6))
    assert images.labels.tolist() == LABELS[images.sources].tolist()
    digits = {}
    for picture, box, source in zip(
        images[range(50)], images.boxes.int().tolist(), images.sources, strict=True
    ):
        top, left, bottom, right = box
        digit = picture[:, top:bottom, left:right]
        assert torch.equal(digits.setdefault(source, digit), digit)
    assert len(digits) < 50
    assert Subset(images, np.array([4, 2])).sources.tolist() == images.sources[[4, 2]].tolist()


def test_without_clutter_the_digit_fills_its_box_and_nothing_else():
    images = scenes(Clutter(canvas=48, digit=12, pieces=0, piece=6))
    pixels = images[range(50)]
    for picture, (top, left, bottom, right) in zip(
        pixels, images.boxes.int().tolist(), strict=True
    ):
        assert (bottom - top, right - left) == (12, 12)
        assert (picture[:, top:bottom, left:right] > 0).float().mean() > 0.9
        # The three channels of a scene are one, which cannot be written to.
        around = picture.clone()
        around[:, top:bottom, left:right] = 0
        assert (around == 0).all()


def test_clutter_is_there_and_hides_no_bright_pixel():
    bare = scenes(Clutter(canvas=48, digit=12, pieces=0, piece=6))[range(50)]
    cluttered = scenes()[range(50)]
    assert (cluttered >= bare).all()
    assert ((cluttered > bare).flatten(1).sum(dim=1) > 0).all()


@given(st.integers(16, 64), st.integers(1, 16), st.integers(0, 5), st.data())
def test_every_composition_fits_its_canvas(canvas, digit, pieces, data):
    piece = data.draw(st.integers(1, digit))
    images = scenes(Clutter(canvas=canvas, digit=digit, pieces=pieces, piece=piece), count=8)
    assert images[range(8)].shape == (8, 3, canvas, canvas)
    assert images.boxes.min() >= 0
    assert images.boxes.max() <= canvas


@pytest.mark.parametrize(
    ("change", "message"),
    [({"digit": 60}, "digit"), ({"piece": 13}, "piece"), ({"pieces": -1}, "pieces")],
)
def test_an_impossible_composition_is_refused(change, message):
    values = {"canvas": 48, "digit": 12, "pieces": 3, "piece": 6} | change
    with pytest.raises(ValueError, match=message):
        Clutter(**values)
