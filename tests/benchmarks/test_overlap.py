import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env import ArrayImages
from gfnet_env.benchmarks.overlap import measure_overlaps
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.images import DatasetImages, object_masks
from gfnet_env.looks import ViewConfig
from gfnet_env.policies import TargetPolicy

HEIGHT, WIDTH, SIDE = 9, 12, 4


VIEW = ViewConfig(size=SIDE)


def record(locations, indices=None, scales=None):
    locations = np.float32(locations)
    count = len(locations)
    nothing = np.zeros((count, 1), dtype=np.float32)
    numbers = np.arange(count) if indices is None else np.array(indices)
    scales = np.ones(locations.shape[:2]) if scales is None else np.array(scales)
    scales = np.where(np.isnan(locations[..., 0]), np.nan, scales).astype(np.float32)
    looks = (~np.isnan(scales)).sum(axis=1)
    return Record(numbers, nothing > 0, nothing, nothing, locations, scales, looks, nothing)


def blank(count):
    return ArrayImages(torch.zeros(count, 3, HEIGHT, WIDTH, dtype=torch.uint8))


@given(
    corners=st.lists(
        st.tuples(st.integers(0, HEIGHT - SIDE), st.integers(0, WIDTH - SIDE)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 100),
)
def test_overlaps_by_counting_pixels(corners, seed):
    mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3
    mask[seed % HEIGHT, 0] = True
    room = np.array([HEIGHT - SIDE, WIDTH - SIDE])
    locations = 2 * np.array(corners) / room - 1
    masks = [torch.from_numpy(mask)]
    records = {"one": record(locations[None])}
    found = measure_overlaps(VIEW, blank(1), records, lambda indices: masks)["one"]
    seen = np.zeros_like(mask)
    for step, (top, left) in enumerate(corners):
        seen[top : top + SIDE, left : left + SIDE] = True
        assert found.centred[0, step] == mask[top + 2, left + 2]
        assert found.covered[0, step] == pytest.approx((seen & mask).sum() / mask.sum())


def test_every_record_is_compared_with_its_own_images():
    count = 150
    room = np.array([HEIGHT - SIDE, WIDTH - SIDE])
    corners = np.random.default_rng(0).integers(0, room + 1, size=(count, 2))
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + SIDE, left : left + SIDE] = True
    locations = (2 * corners / room - 1)[:, None]
    chosen = np.arange(1, count, 3)
    records = {"all": record(locations), "some": record(locations[chosen], chosen)}
    found = measure_overlaps(VIEW, blank(len(masks)), records, lambda indices: list(masks[indices]))
    for name, number in (("all", count), ("some", len(chosen))):
        assert found[name].centred.shape == (number, 1)
        assert found[name].centred.all()
        assert (found[name].covered == 1).all()


def test_images_without_an_object_are_left_out():
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[1] = True
    records = {"all": record(np.zeros((3, 2, 2))), "some": record(np.zeros((2, 2, 2)))}
    found = measure_overlaps(VIEW, blank(len(masks)), records, lambda indices: list(masks[indices]))
    for overlap in found.values():
        assert overlap.centred.tolist() == [[True, True]]
        assert overlap.covered == pytest.approx(SIDE**2 / (HEIGHT * WIDTH))
    few = {"few": record(np.zeros((1, 2, 2)))}
    with pytest.raises(ValueError, match="none of the 1 images shows an object"):
        measure_overlaps(VIEW, blank(3), few, lambda indices: list(masks[indices]))


def test_a_perfect_locator_is_on_the_object(network, digits):
    records = {"target": evaluate_policy(network, TargetPolicy(), digits)}
    found = measure_overlaps(network.view, digits, records, object_masks(digits))["target"]
    assert found.centred.all()
    assert (found.covered == 1).all()


def test_looks_that_zoom_or_were_not_taken_at_pictures_of_any_size():
    sizes = [(9, 12), (8, 30)]
    images = DatasetImages([(np.zeros((3, *size), np.uint8), 0) for size in sizes])
    masks = [torch.zeros(size, dtype=torch.bool) for size in sizes]
    masks[0][4, 5:8] = masks[1][7, 29] = True
    nan = np.nan
    locations = [[[-1, -1], [0, 0]], [[1, 1], [nan, nan]]]
    scales = [[1, 3], [2, 1]]
    records = {"one": record(locations, scales=scales)}
    found = measure_overlaps(VIEW, images, records, lambda indices: [masks[i] for i in indices])
    # The window of 12 pixels shows all of the picture that is as large; 8 of the other.
    np.testing.assert_array_equal(found["one"].centred, [[0, 1], [0, nan]])
    np.testing.assert_array_equal(found["one"].covered, [[0, 1], [1, 1]])
