import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.looks import (
    MAX_SCALE,
    Look,
    Scale,
    ViewConfig,
    centred_locations,
    check_locations,
    lattice,
    nearest_cell,
)
from gfnet_env.settings import checked

sides = st.integers(1, 20)
rooms = st.tuples(st.integers(0, 50), st.integers(0, 50))
locations = st.tuples(st.floats(-1, 1), st.floats(-1, 1))
roundings = st.sampled_from(["nearest", "floor"])


def boxes(location, size, side, rounding="nearest", scale=1.0):
    """The pixels (B, 4) that looks at locations (B, 2) show of pictures of one size."""
    looks = Look.at(torch.as_tensor(location), torch.full((len(location),), scale))
    sizes = torch.tensor(size).expand(len(looks), 2)
    return ViewConfig(size=side, rounding=rounding).window_boxes(looks, sizes)


@given(locations, rooms, sides, roundings, st.floats(1, 8))
def test_every_window_lies_inside_the_picture(location, room, side, rounding, scale):
    size = (room[0] + side, room[1] + side)
    top, left, bottom, right = boxes([location], size, side, rounding, scale)[0].tolist()
    assert 0 <= top < bottom <= size[0]
    assert 0 <= left < right <= size[1]
    wanted = round(torch.tensor(scale).mul(side).item())
    assert bottom - top == min(wanted, size[0])
    assert right - left == min(wanted, size[1])


@given(rooms, sides, roundings)
def test_minus_one_and_one_are_flush_with_the_edges(room, side, rounding):
    size = (room[0] + side, room[1] + side)
    ends = boxes([[-1.0, -1.0], [1.0, 1.0]], size, side, rounding)
    assert ends.tolist() == [[0, 0, side, side], [*room, *size]]


@given(locations, locations, rooms, sides, roundings)
def test_a_larger_location_is_never_further_up_or_left(first, second, room, side, rounding):
    low, high = (
        torch.minimum(*map(torch.tensor, (first, second))),
        torch.maximum(*map(torch.tensor, (first, second))),
    )
    size = (room[0] + side, room[1] + side)
    both = boxes(torch.stack([low, high]), size, side, rounding)
    assert (both[0] <= both[1]).all()


@given(st.data(), rooms, sides)
def test_a_window_centred_on_a_point_has_it_in_its_middle(data, room, side):
    size = (room[0] + side, room[1] + side)
    corner = torch.tensor([data.draw(st.integers(0, extent)) for extent in room])
    location = centred_locations((corner + side / 2)[None], torch.tensor([size]), side)
    assert location.abs().max() <= 1
    assert boxes(location, size, side)[0, :2].tolist() == corner.tolist()


def test_points_near_the_edge_get_the_window_flush_with_it():
    centres = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    sizes = torch.tensor([[100, 100]] * 2)
    assert centred_locations(centres, sizes, 20).tolist() == [[-1, -1], [1, 1]]


@given(st.data(), rooms, sides, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_cells_are_covered_by_as_many_pixels_as_the_window_has(data, room, side, cells):
    size = (room[0] + side, room[1] + side)
    top, left = (data.draw(st.integers(0, extent)) for extent in room)
    box = torch.tensor([[top, left, top + side, left + side]])
    view, sizes = ViewConfig(size=side), torch.tensor([size])
    share = view.covered(box, sizes, cells)[0]
    assert share.min() >= 0
    assert share.max() <= 1
    cell_pixels = size[0] * size[1] / (cells[0] * cells[1])
    assert share.sum() * cell_pixels == pytest.approx(side**2, rel=1e-3)
    # At one cell a pixel, the mask of the window itself.
    expected = torch.zeros(size)
    expected[top : top + side, left : left + side] = 1
    torch.testing.assert_close(view.covered(box, sizes, size)[0], expected, atol=1e-4, rtol=0)


def test_a_padded_overview_shows_the_picture_between_what_it_is_padded_with():
    view, sizes = ViewConfig(size=8, aspect="pad"), torch.tensor([[40, 80], [80, 40]])
    corner, extents = view.frame(sizes)
    assert corner.tolist() == [[-20, 0], [0, -20]]
    assert extents.tolist() == [[80, 80], [80, 80]]
    whole = torch.cat([torch.zeros_like(sizes), sizes], dim=1)
    covered = view.covered(whole, sizes, (4, 4))
    assert covered[0].tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]
    assert covered[1].tolist() == [[0, 1, 1, 0]] * 4


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_a_look_at_a_cell_is_centred_on_it(aspect):
    view, sizes = ViewConfig(size=4, aspect=aspect), torch.tensor([[64, 128]])
    where = view.cell_locations(sizes, (8, 8))
    assert where.shape == (1, 64, 2)
    box = view.window_boxes(Look.at(where[0]), sizes.expand(64, 2))
    covered = view.covered(box, sizes.expand(64, 2), (8, 8)).flatten(1)
    inside = [row for row in range(64) if where[0, row].abs().max() < 1]
    assert len(inside) >= 16
    for row in inside:
        assert covered[row].argmax() == row


def test_rounding():
    location = [[0.5, 0.4]]  # 7.5 and 7.0 of 10 pixels
    assert boxes(location, (14, 14), 4, "floor")[0, :2].tolist() == [7, 7]
    assert boxes(location, (14, 14), 4, "nearest")[0, :2].tolist() == [8, 7]


@given(st.floats(0, 1, width=32), st.integers(0, 400))
def test_a_share_in_float64_gives_the_corner_of_the_share_itself(share, room):
    for exact in (torch.tensor(share), torch.tensor(1.0) / max(room, 1) * (room // 5)):
        location = (2 * exact.double() - 1).expand(1, 2)
        corner = boxes(location, (room + 4, room + 4), 4, "floor")[:, :2]
        assert corner.tolist() == [[int((exact * room).floor())] * 2]


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
    with pytest.raises(ValueError, match="at most 1,000 cells along each axis, not 2147483648"):
        lattice(2**31)


@pytest.mark.parametrize("scale", [MAX_SCALE, 1e38])
def test_a_window_of_any_scale_shows_all_of_a_picture(scale):
    looks = Look.at(torch.tensor([[0.3, -1.0]]), torch.tensor([scale]))
    looks.check(1)
    boxes = ViewConfig(size=16).window_boxes(looks, torch.tensor([[40, 2**20]]))
    assert boxes.tolist() == [[0, 0, 40, 2**20]]


@pytest.mark.parametrize("scale", [0.5, math.inf, math.nan])
def test_a_scale_out_of_range_is_named(scale):
    with pytest.raises(ValueError, match=f"finite; one is {scale}"):
        Look.at(torch.zeros(1, 2), torch.tensor([scale])).check(1)
    with pytest.raises(ValueError, match=f"side must be .*, not {scale}"):
        checked("side", scale, Scale)


@pytest.mark.parametrize("cells", [2.5, "3", None, float("nan"), True])
def test_a_lattice_has_a_whole_number_of_cells(cells):
    with pytest.raises(ValueError, match="cells must be a whole number, not"):
        lattice(cells)
