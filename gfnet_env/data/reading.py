"""Going through a set in batches that are read ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data.images import ImageSet

# Batches that are read while one is worked on: enough to ride over one that is slow to decode.
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Some images of a set.

    Attributes:
        indices: Which, (B,).
        pixels: (B, 3, H, W) uint8.
        labels: Their classes, (B,).
        boxes: Where the objects are, (B, 4) as in ``ImageSet``, or None where the set has none.
    """

    indices: npt.NDArray[np.int64]
    pixels: Tensor
    labels: Tensor
    boxes: Tensor | None = None


def batches(
    images: ImageSet,
    batch_size: int,
    order: npt.NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Go through a set once; a thread reads the next two batches while one is worked on.

    Threads and not the processes of ``torch.utils.data.DataLoader``: decoding and resizing release
    the interpreter's lock, pictures that are kept are kept once, and a set need not be sent
    anywhere.

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
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    if device == torch.device("cuda"):
        device = torch.device("cuda", torch.cuda.current_device())

    def read(chosen: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        rows = torch.from_numpy(chosen)
        tensors = [images[chosen], images.labels[rows]]
        if images.boxes is not None:
            tensors.append(images.boxes[rows])
        # A copy from pinned memory goes on beside what the GPU works on.
        return tuple(tensor.contiguous().pin_memory() if on_gpu else tensor for tensor in tensors)

    def deliver(chosen: npt.NDArray[np.int64], reading: Future[tuple[Tensor, ...]]) -> Batch:
        return Batch(
            chosen, *(tensor.to(device, non_blocking=on_gpu) for tensor in reading.result())
        )

    # A new thread would be on the first GPU, whichever one is meant.
    select_gpu = partial(torch.cuda.set_device, device) if on_gpu else None
    reader = ThreadPoolExecutor(1, "read", initializer=select_gpu)
    waiting: deque[tuple[npt.NDArray[np.int64], Future[tuple[Tensor, ...]]]] = deque()
    try:
        for start_of_batch in range(0, len(order), batch_size):
            chosen = order[start_of_batch : start_of_batch + batch_size]
            waiting.append((chosen, reader.submit(read, chosen)))
            if len(waiting) > _AHEAD:
                yield deliver(*waiting.popleft())
        while waiting:
            yield deliver(*waiting.popleft())
    finally:
        reader.shutdown(cancel_futures=True)
