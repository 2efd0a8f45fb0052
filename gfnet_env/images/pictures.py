"""Image sets that decode or render whole pictures and keep them up to a memory limit."""

import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, ImageSet, Indices, Numbers, cut, cut_one
from gfnet_env.images.decoded import Decoded, OnDisk
from gfnet_env.images.resize import Shape
from gfnet_env.images.threads import Threads
from gfnet_env.looks import ViewConfig

# Number of batches that must fit in memory for reading ahead: ``batches`` reads two while one is in
# use.
_BATCHES = 3
# Bytes of pictures of one size to decode at once.
_READ_BYTES = 2**28


class PictureImages(ImageSet):
    """Base of sets that decode or render whole pictures. It is thread-safe.

    Args:
        workers: Threads that decode pictures; 0 decodes in the calling thread.
        memory_limit: Maximum bytes of decoded pictures to keep; the others are read each time.

    Raises:
        ValueError: A number is below 0.
    """

    def __init__(self, *, workers: int = 0, memory_limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        if memory_limit < 0:
            raise ValueError(f"memory_limit must be at least 0 bytes, not {memory_limit}")
        self.memory_limit = memory_limit
        self._threads = Threads(workers)
        self._slots: _Slots | None = None
        self._recent = _Recent(memory_limit)

    @abstractmethod
    def _read(self, indices: Numbers) -> Tensor | Sequence[Tensor | Decoded | OnDisk]:
        """Decode or render some pictures.

        Args:
            indices: Checked indices, (B,). In a set without ``fixed_size``, several threads request
                one picture at a time.

        Returns:
            (B, C, H, W) uint8 if the set has a ``fixed_size``, or else (C, h, w) for each picture,
            which may be ``Decoded`` or ``OnDisk``. Grey pictures may have one channel.
        """

    def _measure(self, index: int) -> Sequence[int]:
        """(H, W) of one picture of a set without ``fixed_size``; by default the picture is read."""
        return self._picture(index, ()).shape[1:]

    def _pixels_to_decode(self, index: int) -> int:
        """Pixels of a picture of a set without ``fixed_size``; 0 if unknown or not decoded."""
        return int(self._known_sizes[index].prod())

    @cached_property
    def _known_sizes(self) -> Numbers:
        """(H, W) of each picture of a set without ``fixed_size``, (N, 2); zeros until measured."""
        return np.zeros((len(self), 2), dtype=np.int64)

    def _sizes(self, indices: Numbers) -> Tensor:
        if self.fixed_size is not None:
            return super()._sizes(indices)
        unknown = np.unique(indices[self._known_sizes[indices, 0] == 0])
        if len(unknown):
            self._known_sizes[unknown] = self._threads.map(self._measure, unknown.tolist())
        return torch.from_numpy(self._known_sizes[indices])

    def prefetch(self, indices: Indices) -> None:
        """Read pictures that are needed soon, if three such batches fit into memory."""
        numbers = np.unique(self.numbers(indices))
        if self.fixed_size is None:
            bytes_needed = 3 * int(self._sizes(numbers).prod(dim=1).sum())
            if _BATCHES * bytes_needed <= self.memory_limit:
                self._threads.map(lambda index: self._picture(index, ()), numbers.tolist())
            return
        slots = self._slots
        # The first pictures that are read show how many channels they have.
        grey = math.prod(self.fixed_size)
        fitting = self.memory_limit // grey if slots is None else slots.count
        if _BATCHES * len(numbers) <= fitting or fitting >= len(self):
            missing = numbers if slots is None else numbers[slots.find(numbers) < 0]
            for part in self._parts(missing):
                self._keep(part, self._read_all(part), numbers)

    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        boxes = boxes.cpu()
        if len(indices) == 0:
            return torch.empty(0, 3, *shape, dtype=torch.uint8)
        if self.fixed_size is None:
            return self._regions_of_own_size(indices, boxes, shape, view)
        held = np.zeros(len(indices), dtype=bool)
        shown: list[Tensor] = []
        order: list[Numbers] = []
        if self._slots is not None:
            with self._threads.lock:
                slots = self._slots.find(indices)
                held = slots >= 0
                if held.any():
                    chosen = boxes if held.all() else boxes[torch.from_numpy(held)]
                    shown.append(self._slots.cut(slots[held], chosen, shape, view))
                    order.append(np.flatnonzero(held))
        for part in self._parts(np.unique(indices[~held])):
            pixels = self._read_all(part)
            rows = np.flatnonzero(np.isin(indices, part))
            places = torch.from_numpy(np.searchsorted(part, indices[rows]))
            shown.append(cut(pixels, places, boxes[torch.from_numpy(rows)], shape, view))
            order.append(rows)
            self._keep(part, pixels, indices)
        if len(shown) == 1:
            return shown[0]
        return torch.cat(shown)[torch.from_numpy(np.concatenate(order).argsort())]

    def _regions_of_own_size(
        self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig
    ) -> Tensor:
        rows_of: dict[int, list[int]] = {}
        for row, index in enumerate(indices.tolist()):
            rows_of.setdefault(index, []).append(row)
        corners = boxes.tolist()

        def show(index: int) -> list[Tensor]:
            # A picture that does not fit into memory is dropped at once.
            with self._threads.alone(self._pixels_to_decode(index)):
                return cut_from(self._picture(index, rows_of), index)

        def cut_from(picture: Tensor | Decoded | OnDisk, index: int) -> list[Tensor]:
            part = partial(cut_one, picture) if isinstance(picture, Tensor) else picture.cut
            parts = [part(corners[row], shape, view) for row in rows_of[index]]
            return [part.expand(-1, 3, -1, -1).contiguous() for part in parts]

        # Cutting a window from a kept picture is faster than starting a thread.
        exact = bool((boxes[:, 2:] - boxes[:, :2] == torch.tensor(shape)).all())
        quick = [index for index in rows_of if exact and index in self._recent]
        slow = [index for index in rows_of if index not in quick]
        shown = [show(index) for index in quick] + self._threads.map(show, slow)
        rows = [row for index in quick + slow for row in rows_of[index]]
        parts = torch.cat([part for each in shown for part in each])
        return parts[torch.tensor(rows).argsort()]

    def _picture(self, index: int, needed: Collection[int]) -> Tensor | Decoded | OnDisk:
        """One picture of its own size, (C, h, w), kept if it fits beside the needed ones."""
        with self._threads.lock:
            picture = self._recent.get(index)
        if picture is not None:
            return picture
        (read,) = self._read(np.array([index]))
        if isinstance(read, OnDisk):
            return read
        with self._threads.lock:
            fits = self._recent.make_room(read.nbytes, needed)
        if not fits:
            return read
        picture = read.pixels() if isinstance(read, Decoded) else read
        with self._threads.lock:
            self._recent.keep(index, picture, needed)
        return picture

    def _parts(self, indices: Numbers) -> Iterator[Numbers]:
        """Pictures of one size in parts, each of which is decoded at once."""
        assert self.fixed_size is not None
        count = max(1, self._threads.workers, _READ_BYTES // (3 * math.prod(self.fixed_size)))
        for first in range(0, len(indices), count):
            yield indices[first : first + count]

    def _read_all(self, indices: Numbers) -> Tensor:
        """Pictures of one size, (B, C, H, W)."""
        pixels = self._read(indices)
        assert isinstance(pixels, Tensor)
        return pixels.cpu()

    def _keep(self, indices: Numbers, pixels: Tensor, needed: Numbers) -> None:
        """Keep the pictures of one size that fit beside the needed ones."""
        with self._threads.lock:
            if self._slots is None:
                self._slots = _Slots(len(self), pixels, self.memory_limit)
            self._slots.keep(indices, pixels, needed)


class _Slots:
    """Pictures of one size in one tensor; a new one replaces the oldest.

    Args:
        images: Number of pictures of the set.
        pixels: Some of the pictures, (B, C, H, W), for their shape and type.
        memory_limit: Maximum size in bytes.

    Attributes:
        count: Number of pictures that fit.
    """

    def __init__(self, images: int, pixels: Tensor, memory_limit: int) -> None:
        size = math.prod(pixels.shape[1:]) * pixels.element_size()
        self.count = min(images, memory_limit // size)
        # With numpy's large pages, copying whole pictures is ten times as fast as with torch.
        self._bytes = np.empty((self.count, size), dtype=np.uint8)
        # Flat, since torch cannot view rows as another type if there are none.
        kept = torch.from_numpy(self._bytes.ravel()).view(pixels.dtype)
        self._pixels = kept.view(self.count, *pixels.shape[1:])
        # The slot of each picture, and the picture in each slot; -1 is none.
        self._slot = np.full(images, -1)
        self._index = np.full(self.count, -1)
        self._next = 0

    def find(self, indices: Numbers) -> Numbers:
        """The slots of some pictures; -1 for pictures that are not kept."""
        return self._slot[indices]

    def cut(self, slots: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        """``cut`` from the pictures in some slots."""
        return cut(self._pixels, torch.from_numpy(slots), boxes, shape, view)

    def keep(self, indices: Numbers, pixels: Tensor, needed: Numbers) -> None:
        """Keep pictures; the needed ones keep their slots."""
        new = self._slot[indices] < 0
        taken = self._slot[needed]
        near = np.arange(min(self.count, new.sum() + len(taken)))
        slots = (self._next + near) % max(1, self.count)
        slots = slots[~np.isin(slots, taken)][: new.sum()]
        rows = np.flatnonzero(new)[: len(slots)]
        if len(rows) == 0:
            return
        left = self._index[slots]
        self._slot[left[left >= 0]] = -1
        flat = pixels.contiguous().flatten(1).view(torch.uint8)
        self._bytes[slots] = flat.numpy()[rows]
        self._index[slots], self._slot[indices[rows]] = indices[rows], slots
        self._next = (slots[-1] + 1) % self.count


class _Recent:
    """Pictures of any size; drops the least recently used first."""

    def __init__(self, memory_limit: int) -> None:
        self._limit = memory_limit
        self._pictures: OrderedDict[int, Tensor] = OrderedDict()
        self._bytes = 0

    def __contains__(self, index: int) -> bool:
        return index in self._pictures

    def get(self, index: int) -> Tensor | None:
        picture = self._pictures.get(index)
        if picture is not None:
            self._pictures.move_to_end(index)
        return picture

    def make_room(self, size: int, needed: Collection[int]) -> bool:
        """Drop pictures until ``size`` bytes fit; the needed pictures stay."""
        if size > self._limit:
            return False
        for old in [each for each in self._pictures if each not in needed]:
            if self._bytes + size <= self._limit:
                break
            self._bytes -= self._pictures.pop(old).nbytes
        return self._bytes + size <= self._limit

    def keep(self, index: int, picture: Tensor, needed: Collection[int]) -> None:
        """Keep a picture if it fits; the needed ones stay."""
        if index not in self._pictures and self.make_room(picture.nbytes, needed):
            self._pictures[index] = picture
            self._bytes += picture.nbytes
