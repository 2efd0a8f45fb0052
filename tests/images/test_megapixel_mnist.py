import numpy as np
import pytest
import torch

from gfnet_env.images import MegapixelMNIST
from gfnet_env.looks import Look, ViewConfig

# A digit of class k is a square of grey 10·k + 100, so that pixels tell which digit they are of.
LABELS = np.repeat(np.arange(10), 3)
DIGITS = np.broadcast_to((10 * LABELS + 100)[:, None, None], (30, 28, 28)).astype(np.uint8)


def pictures(**options):
    options = {"side": 256, "images": 60, "noise": 9} | options
    return MegapixelMNIST(DIGITS, LABELS, **options)


def classes_in(images, index):
    """The classes of the digits of a picture, by their grey where no stroke can be."""
    picture = images.picture(index)[0]
    return [
        (int(picture[top : top + 28, left : left + 28].max()) - 100) // 10
        for top, left in images.digit_corners[index]
    ]


def test_three_digits_are_the_same_and_two_are_others():
    images = pictures(noise=0)
    for index, label in enumerate(images.labels.tolist()):
        classes = classes_in(images, index)
        assert classes.count(label) == 3
        area = (images.picture(index)[0] > 0).sum()
        assert area == 5 * 28 * 28, "digits overlap"
    assert len(images.labels.unique()) == 10


def test_each_task_has_its_own_label():
    majority, largest, top = (pictures(noise=0, task=task) for task in ("majority", "max", "top"))
    for index in range(len(top)):
        classes = classes_in(majority, index)
        assert largest.labels[index] == max(classes)
        uppermost = majority.digit_corners[index, :, 0].argmin()
        assert top.labels[index] == classes[uppermost]
    assert torch.equal(top.picture(5), largest.picture(5))


def test_a_window_is_a_part_of_the_picture_and_an_overview_all_of_it():
    images = pictures()
    indices = np.array([7, 3, 3, 59])
    whole = images[indices]
    view = ViewConfig(size=64)
    generator = torch.Generator().manual_seed(0)
    looks = Look.at(torch.rand(4, 2, generator=generator) * 2 - 1, torch.tensor([1.0, 2, 1, 9]))
    boxes = view.window_boxes(looks, images.sizes(indices))
    shown = images.window(indices, looks, view)
    for row in (0, 2):
        top, left, bottom, right = boxes[row].tolist()
        assert torch.equal(shown[row], whole[row, :, top:bottom, left:right])
    assert torch.equal(shown[3], images.overview([59], view)[0])
    together = images.overview(indices, view)
    assert torch.equal(together[1], together[2])
    assert images.window(indices[:0], Look.at(torch.zeros(0, 2)), view).shape == (0, 3, 64, 64)


def test_a_picture_depends_on_seed_split_and_index_only():
    images = pictures()
    assert torch.equal(images.picture(7), pictures(images=8).picture(7))
    for other in (pictures(seed=1), pictures(split=1), pictures(noise=10)):
        assert not torch.equal(images.picture(7), other.picture(7))
    digests = {each.digest() for each in (images, pictures(seed=1), pictures(images=8))}
    assert len(digests) == 3
    assert pictures().digest() == images.digest()


def test_what_is_pasted_later_covers_what_was_there():
    noise_first, digits_first = pictures(noise=400), pictures(noise=400, order="digits-first")
    for index in range(9):
        assert classes_in(noise_first, index).count(int(noise_first.labels[index])) == 3
    greys = 10 * LABELS + 100
    shares = [
        float(np.isin(images[range(9)].numpy(), greys).mean())
        for images in (noise_first, digits_first)
    ]
    assert shares[1] < shares[0] / 2
    # Strokes begin at 28 pixels or more.
    strokes = noise_first.picture(0)[0].numpy()
    strokes = np.where(np.isin(strokes, greys), 0, strokes)
    assert not strokes[:28].any()
    assert not strokes[:, :28].any()


def test_wrong_numbers_and_names_are_refused():
    for options, message in (
        ({"side": 80}, "side must be in 84..100000, not 80"),
        ({"images": 0}, "images must be in 1..10000000, not 0"),
        ({"noise": -1}, "noise must be in 0..10000, not -1"),
        ({"task": "sum"}, "unknown task 'sum'; known: majority, max, top"),
        ({"order": "none"}, "unknown order 'none'; known: noise-first, digits-first"),
    ):
        with pytest.raises(ValueError, match=message):
            pictures(**options)
