import threading

import numpy as np
import pytest
import torch

from gfnet_env.images import PictureImages, batches


def test_batches_cover_an_order_once(tiny_images):
    order = np.random.default_rng(0).permutation(12)
    seen = list(batches(tiny_images, 5, order))
    assert [len(batch.labels) for batch in seen] == [5, 5, 2]
    assert (np.concatenate([batch.indices for batch in seen]) == order).all()
    for batch in seen:
        assert torch.equal(batch.labels, tiny_images.labels[torch.from_numpy(batch.indices)])
        assert batch.boxes is None


def test_boxes_come_with_their_images(digits):
    (batch,) = batches(digits, 8, np.arange(5, 10))
    assert torch.equal(batch.boxes, digits.boxes[5:10])


class BlackImages(PictureImages):
    """Black pictures; notes what is read. One of them may be damaged."""

    fixed_size = (4, 4)

    def __init__(self, count, damaged=None):
        super().__init__()
        self.labels = torch.zeros(count, dtype=torch.int64)
        self.damaged = damaged
        self.read = 0

    def _read(self, indices):
        if self.damaged in indices:
            raise ValueError(f"picture {self.damaged} is damaged")
        self.read += len(indices)
        return torch.zeros(len(indices), 1, 4, 4, dtype=torch.uint8)


def test_little_is_read_ahead_and_no_thread_is_left():
    images = BlackImages(100)
    threads = threading.active_count()
    reading = batches(images, 10)
    next(reading)
    assert 10 <= images.read <= 30
    reading.close()
    assert images.read <= 30
    assert threading.active_count() == threads


def test_a_picture_that_fails_to_read_fails_the_loop_when_its_turn_comes():
    threads = threading.active_count()
    reading = batches(BlackImages(12, damaged=7), 3)
    assert [len(next(reading).labels) for _ in range(2)] == [3, 3]
    with pytest.raises(ValueError, match="picture 7 is damaged"):
        next(reading)
    assert threading.active_count() == threads


def test_a_batch_holds_something(tiny_images):
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        list(batches(tiny_images, 0))
