"""Threads that decode pictures."""

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar, TypeVar

# Pixels from which on pictures are decoded one by one.
_LARGE = 2**26

Item = TypeVar("Item")
Result = TypeVar("Result")


class Threads:
    """A pool of threads and a lock; each copy and each forked process has its own.

    Args:
        workers: Number of threads; 0 works in the calling thread.

    Raises:
        ValueError: ``workers`` is below 0.
    """

    _all: ClassVar[weakref.WeakSet["Threads"]] = weakref.WeakSet()
    _held: ClassVar[list["Threads"]] = []

    def __init__(self, workers: int) -> None:
        if workers < 0:
            raise ValueError(f"workers must be at least 0, not {workers}")
        self.workers = workers
        self.lock = threading.Lock()
        self._large = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None
        self._all.add(self)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """The results of a function for each item, in order; raises the first exception."""
        items = list(items)
        if self.workers == 0 or len(items) < 2:
            return list(map(function, items))
        with self.lock:
            pool = self._pool = self._pool or ThreadPoolExecutor(self.workers, "decode")
        return list(pool.map(function, items))

    @contextmanager
    def alone(self, pixels: int) -> Iterator[None]:
        """Wait while another thread has a large picture, if this one is large too.

        Decoding takes up to 8 bytes per pixel, in every thread, and a small file may hold many.
        """
        if pixels <= _LARGE:
            yield
            return
        with self._large:
            yield

    def __reduce__(self) -> tuple[type["Threads"], tuple[int]]:
        return Threads, (self.workers,)

    @classmethod
    def _hold_all(cls) -> None:
        cls._held = list(cls._all)
        for threads in cls._held:
            threads.lock.acquire()

    @classmethod
    def _release_all(cls) -> None:
        for threads in cls._held:
            threads.lock.release()
        cls._held = []

    @classmethod
    def _renew_all(cls) -> None:
        for threads in cls._all:
            threads.lock, threads._pool = threading.Lock(), None
            threads._large = threading.RLock()
        cls._held = []


# A forked child lacks its parent's threads and would wait for them forever; and what they were
# changing, which locks guard, would stay half changed.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=Threads._hold_all,
        after_in_parent=Threads._release_all,
        after_in_child=Threads._renew_all,
    )
