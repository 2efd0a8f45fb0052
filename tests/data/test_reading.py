import threading

import numpy as np
import pytest
import torch

from gfnet_env.data import ArrayImages, ImageSet, batches


def test_batches_cover_an_order_once(tiny_images):
    order = np.random.default_rng(0).permutation(12)
    seen = list(batches(tiny_images, 5, order))
    assert [len(batch.pixels) for batch in seen] == [5, 5, 2]
    assert (np.concatenate([batch.indices for batch in seen]) == order).all()
    for batch in seen:
        assert torch.equal(batch.pixels, tiny_images[batch.indices])
        assert torch.equal(batch.labels, tiny_images.labels[torch.from_numpy(batch.indices)])
        assert batch.boxes is None


def test_boxes_come_with_their_images(digits):
    (batch,) = batches(digits, 8, np.arange(5, 10))
    assert torch.equal(batch.boxes, digits.boxes[5:10])


class CountedImages(ArrayImages):
    """Notes what is read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = 0

    def _read(self, indices):
        self.read += len(indices)
        return super()._read(indices)


def test_little_is_read_ahead_and_no_thread_is_left():
    images = CountedImages(np.zeros((100, 3, 4, 4), dtype=np.uint8), np.zeros(100, dtype=int))
    threads = threading.active_count()
    reading = batches(images, 10)
    next(reading)
    assert images.read <= 30
    reading.close()
    assert images.read <= 30
    assert threading.active_count() == threads


class DamagedImages(ImageSet):
    """One of its images cannot be read."""

    labels = torch.zeros(12, dtype=torch.int64)

    def _read(self, indices):
        if 7 in indices:
            raise ValueError("picture 7 is damaged")
        return torch.zeros(len(indices), 3, 4, 4, dtype=torch.uint8)


def test_a_picture_that_fails_to_read_fails_the_loop_when_its_turn_comes():
    threads = threading.active_count()
    reading = batches(DamagedImages(), 3)
    assert [len(next(reading).pixels) for _ in range(2)] == [3, 3]
    with pytest.raises(ValueError, match="picture 7 is damaged"):
        next(reading)
    assert threading.active_count() == threads


def test_a_batch_holds_something(tiny_images):
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        list(batches(tiny_images, 0))
