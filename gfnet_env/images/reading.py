"""Batches of an image set, read ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gfnet_env.images.base import ImageSet, Indices, Numbers
from gfnet_env.settings import AtLeast, checked

# Number of batches to read ahead: enough to hide one that is slow to decode.
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """A batch of images of a set; the set holds their pixels.

    Attributes:
        indices: Indices of the images, (B,).
        labels: Classes of the images, (B,).
        boxes: Boxes of the objects, (B, 4) as in ``ImageSet``, or None if the set has none.
    """

    indices: Numbers
    labels: Tensor
    boxes: Tensor | None = None


def batches(
    images: ImageSet,
    batch_size: int,
    order: Indices | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Go through a set once, while a thread reads the pictures of the next two batches.

    One thread is enough: decoding and resizing release the interpreter's lock.

    Args:
        images: The set.
        batch_size: Images per batch, at least 1; the last batch may be smaller.
        order: Indices to go through; None takes all in order.
        device: Device of the tensors of a batch.
    """
    checked("batch_size", batch_size, Annotated[int, AtLeast(1)])
    order = images.numbers(slice(None) if order is None else order)

    def deliver(chosen: Numbers, reading: Future[None]) -> Batch:
        reading.result()
        rows = torch.from_numpy(chosen)
        boxes = None if images.boxes is None else images.boxes[rows].to(device)
        return Batch(chosen, images.labels[rows].to(device), boxes)

    reader = ThreadPoolExecutor(1, "read")
    waiting: deque[tuple[Numbers, Future[None]]] = deque()
    try:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            waiting.append((chosen, reader.submit(images.prefetch, chosen)))
            if len(waiting) > _AHEAD:
                yield deliver(*waiting.popleft())
        while waiting:
            yield deliver(*waiting.popleft())
    finally:
        reader.shutdown(cancel_futures=True)
