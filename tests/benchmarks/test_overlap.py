import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.benchmarks.overlap import measure_overlaps
from gfnet_env.data import object_masks
from gfnet_env.inference import Record, evaluate_policy
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import TargetPolicy

HEIGHT, WIDTH, SIDE = 9, 12, 4


def record(locations, indices=None):
    count = len(locations)
    nothing = np.zeros((count, 1), dtype=np.float32)
    numbers = np.arange(count) if indices is None else np.array(indices)
    return Record(numbers, nothing > 0, nothing, nothing, np.float32(locations))


@pytest.fixture(scope="module")
def small():
    return GlanceFocusNetwork.build(encoder="compact", patch_size=SIDE, num_classes=2)


@given(
    corners=st.lists(
        st.tuples(st.integers(0, HEIGHT - SIDE), st.integers(0, WIDTH - SIDE)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 100),
)
def test_overlaps_by_counting_pixels(small, corners, seed):
    mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3
    mask[seed % HEIGHT, 0] = True
    room = np.array([HEIGHT - SIDE, WIDTH - SIDE])
    locations = 2 * np.array(corners) / room - 1
    masks = torch.from_numpy(mask)[None]
    found = measure_overlaps(small, {"one": record(locations[None])}, lambda indices: masks)["one"]
    seen = np.zeros_like(mask)
    for step, (top, left) in enumerate(corners):
        seen[top : top + SIDE, left : left + SIDE] = True
        assert found.centred[0, step] == mask[top + 2, left + 2]
        assert found.covered[0, step] == pytest.approx((seen & mask).sum() / mask.sum())


def test_every_record_is_held_against_its_own_images(small):
    count = 150
    room = np.array([HEIGHT - SIDE, WIDTH - SIDE])
    corners = np.random.default_rng(0).integers(0, room + 1, size=(count, 2))
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + SIDE, left : left + SIDE] = True
    locations = (2 * corners / room - 1)[:, None]
    chosen = np.arange(1, count, 3)
    records = {"all": record(locations), "some": record(locations[chosen], chosen)}
    found = measure_overlaps(small, records, lambda indices: masks[torch.from_numpy(indices)])
    for name, number in (("all", count), ("some", len(chosen))):
        assert found[name].centred.shape == (number, 1)
        assert found[name].centred.all()
        assert (found[name].covered == 1).all()


def test_images_without_an_object_are_left_out(small):
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[1] = True
    records = {"all": record(np.zeros((3, 2, 2))), "some": record(np.zeros((2, 2, 2)))}
    found = measure_overlaps(small, records, lambda indices: masks[torch.from_numpy(indices)])
    for overlap in found.values():
        assert overlap.centred.tolist() == [[True, True]]
        assert overlap.covered == pytest.approx(SIDE**2 / (HEIGHT * WIDTH))
    few = {"few": record(np.zeros((1, 2, 2)))}
    with pytest.raises(ValueError, match="none of the 1 images shows an object"):
        measure_overlaps(small, few, lambda indices: masks[torch.from_numpy(indices)])


def test_a_perfect_locator_is_on_the_object(network, digits):
    records = {"target": evaluate_policy(network, TargetPolicy(), digits)}
    found = measure_overlaps(network, records, object_masks(digits))["target"]
    assert found.centred.all()
    assert (found.covered == 1).all()
