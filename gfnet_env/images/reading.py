"""Going through a set in batches that are read ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfnet_env.images.base import ImageSet, Numbers

# Batches that are read while one is worked on: enough to ride over one that is slow to decode.
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Some images of a set; their pixels are the set's.

    Attributes:
        indices: Which, (B,).
        labels: Their classes, (B,).
        boxes: Where the objects are, (B, 4) as in ``ImageSet``, or None where the set has none.
    """

    indices: Numbers
    labels: Tensor
    boxes: Tensor | None = None


def batches(
    images: ImageSet,
    batch_size: int,
    order: Numbers | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Go through a set once; a thread reads the pictures of the next two batches ahead.

    Decoding and resizing release the interpreter's lock, so that no processes are needed.

    Args:
        images: The set.
        batch_size: Images per batch; the last batch may be smaller.
        order: Indices to go through, or None for all of them in order.
        device: Where the tensors of a batch are put.

    Raises:
        ValueError: The batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    order = np.arange(len(images)) if order is None else order

    def deliver(chosen: Numbers, reading: Future[None]) -> Batch:
        reading.result()
        rows = torch.from_numpy(chosen)
        boxes = None if images.boxes is None else images.boxes[rows].to(device)
        return Batch(chosen, images.labels[rows].to(device), boxes)

    reader = ThreadPoolExecutor(1, "read")
    waiting: deque[tuple[Numbers, Future[None]]] = deque()
    try:
        for start_of_batch in range(0, len(order), batch_size):
            chosen = order[start_of_batch : start_of_batch + batch_size]
            waiting.append((chosen, reader.submit(images.prefetch, chosen)))
            if len(waiting) > _AHEAD:
                yield deliver(*waiting.popleft())
        while waiting:
            yield deliver(*waiting.popleft())
    finally:
        reader.shutdown(cancel_futures=True)
