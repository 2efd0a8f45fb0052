import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.perception.geometry import (
    centred_locations,
    check_locations,
    check_rounding,
    covered,
    crop_patches,
    lattice,
    nearest_cell,
    patch_corners,
)

patches = st.integers(1, 20)
rooms = st.tuples(st.integers(0, 50), st.integers(0, 50))
locations = st.tuples(st.floats(-1, 1), st.floats(-1, 1))
roundings = st.sampled_from(["nearest", "floor"])


@given(locations, rooms, patches, roundings)
def test_every_patch_lies_inside_the_image(location, room, patch, rounding):
    size = (room[0] + patch, room[1] + patch)
    corner = patch_corners(torch.tensor([location]), size, patch, rounding)[0]
    assert 0 <= corner[0] <= room[0]
    assert 0 <= corner[1] <= room[1]


@given(rooms, patches, roundings)
def test_minus_one_and_one_are_flush_with_the_edges(room, patch, rounding):
    size = (room[0] + patch, room[1] + patch)
    ends = patch_corners(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), size, patch, rounding)
    assert ends.tolist() == [[0, 0], list(room)]


@given(locations, locations, rooms, patches, roundings)
def test_a_larger_location_is_never_further_up_or_left(first, second, room, patch, rounding):
    low, high = (
        torch.minimum(*map(torch.tensor, (first, second))),
        torch.maximum(*map(torch.tensor, (first, second))),
    )
    size = (room[0] + patch, room[1] + patch)
    corners = patch_corners(torch.stack([low, high]), size, patch, rounding)
    assert (corners[0] <= corners[1]).all()


@given(st.data(), rooms, patches)
def test_a_patch_centred_on_a_point_has_it_in_its_middle(data, room, patch):
    size = (room[0] + patch, room[1] + patch)
    corner = torch.tensor([data.draw(st.integers(0, extent)) for extent in room])
    location = centred_locations((corner + patch / 2)[None], size, patch)
    assert location.abs().max() <= 1
    assert patch_corners(location, size, patch, "nearest")[0].tolist() == corner.tolist()


def test_points_near_the_edge_get_the_patch_flush_with_it():
    centres = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    assert centred_locations(centres, (100, 100), 20).tolist() == [[-1, -1], [1, 1]]


@given(st.data(), rooms, patches, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_cells_are_covered_by_as_many_pixels_as_the_patch_has(data, room, patch, grid):
    size = (room[0] + patch, room[1] + patch)
    corner = torch.tensor([[data.draw(st.integers(0, extent)) for extent in room]])
    share = covered(corner, size, patch, grid)[0]
    assert share.min() >= 0
    assert share.max() <= 1
    cell_pixels = size[0] * size[1] / (grid[0] * grid[1])
    assert share.sum() * cell_pixels == pytest.approx(patch**2, rel=1e-3)
    # At one cell a pixel, the mask of the patch itself.
    mask = covered(corner, size, patch, size)[0]
    (top, left), expected = corner[0], torch.zeros(size)
    expected[top : top + patch, left : left + patch] = 1
    torch.testing.assert_close(mask, expected, atol=1e-4, rtol=0)


def test_rounding():
    location = torch.tensor([[0.5, 0.4]])  # 7.5 and 7.0 of 10 pixels
    assert patch_corners(location, (14, 14), 4, "floor").tolist() == [[7, 7]]
    assert patch_corners(location, (14, 14), 4, "nearest").tolist() == [[8, 7]]
    with pytest.raises(ValueError, match="unknown corner rounding 'up'"):
        check_rounding("up")


@given(st.floats(0, 1, width=32), st.integers(0, 400))
def test_a_share_in_float64_gives_the_corner_of_the_share_itself(share, room):
    for exact in (torch.tensor(share), torch.tensor(1.0) / max(room, 1) * (room // 5)):
        location = (2 * exact.double() - 1).expand(1, 2)
        corner = patch_corners(location, (room + 4, room + 4), 4, "floor")
        assert corner.tolist() == [[int((exact * room).floor())] * 2]


def test_crops_are_the_pixels_at_their_corners():
    images = torch.arange(2 * 3 * 10 * 12).view(2, 3, 10, 12)
    rows = torch.tensor([1, 0, 1])
    corners = torch.tensor([[0, 0], [6, 8], [3, 5]])
    crops = crop_patches(images, rows, corners, 4)
    assert torch.equal(crops[0], images[1, :, 0:4, 0:4])
    assert torch.equal(crops[1], images[0, :, 6:10, 8:12])
    assert torch.equal(crops[2], images[1, :, 3:7, 5:9])


@pytest.mark.parametrize(
    ("given_locations", "message"),
    [
        (torch.zeros(2, 3), r"must be \(2, 2\)"),
        (torch.zeros(3, 2), r"must be \(2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int64), "floating point"),
        (torch.tensor([[0.0, float("nan")], [0.0, 0.0]]), r"\[-1, 1\]; one is nan"),
        (torch.tensor([[0.0, 1.5], [0.0, 0.0]]), r"\[-1, 1\]; one is 1.5"),
    ],
)
def test_wrong_locations_are_refused(given_locations, message):
    with pytest.raises(ValueError, match=message):
        check_locations(given_locations, 2)


@given(st.integers(1, 9))
def test_every_location_of_a_lattice_is_its_own_cell(cells):
    locations = lattice(cells)
    assert locations.shape == (cells**2, 2)
    assert locations.abs().max() == (cells > 1)
    assert nearest_cell(locations, cells).tolist() == list(range(cells**2))


@given(st.lists(locations, min_size=1, max_size=8), st.integers(2, 9))
def test_the_nearest_cell_is_near(places, cells):
    places = torch.tensor(places)
    near = lattice(cells)[nearest_cell(places, cells)]
    assert (near - places).abs().max() <= 1 / (cells - 1) + 1e-6


def test_a_lattice_without_cells_is_refused():
    with pytest.raises(ValueError, match="at least 1 cell along each axis, not 0"):
        lattice(0)
