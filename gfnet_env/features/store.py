"""Numbered entries in one sparse file, which many processes may read and write at once."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfnet_env.files import read_json, write_json, writing

DESCRIPTION = "store.json"
_DATA = "entries.bin"
_MARKS = "marks.bin"
_WORD = 8

Entries = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


class EntryStore:
    """Entries of one size, each of which is present or missing.

    Entry n lies at n times its size. Entries that were never written are a hole in the file, which
    takes no room on disk. An entry begins with a checksum of its number and its words. An entry
    with a wrong checksum counts as missing: it was never written, its writer was killed or is still
    at work, or the disk damaged or misplaced it. So no lock is needed, and no wrong entry is read.

    A second file has a mark for every entry that was written. A mark proves nothing, but a missing
    mark saves reading a hole, which is slow.

    Args:
        folder: Folder of the store; created if missing.
        description: Description of the entries, JSON. A folder holds the entries of one
            description.
        count: Maximum number of entries.
        words: W, size of an entry, in words of 8 bytes.

    Raises:
        ValueError: The folder holds entries of another description, or a file was truncated.
        OSError: The folder cannot be written.
    """

    def __init__(
        self, folder: Path, description: Mapping[str, Any], count: int, words: int
    ) -> None:
        self.folder, self.count, self.words = folder, count, words
        self.is_new = not (folder / DESCRIPTION).is_file()
        if not self.is_new:
            _check_description(folder, description)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._make_file(_DATA, count * (1 + words) * _WORD)
        self._make_file(_MARKS, count)
        if self.is_new:
            # Last: it means that the files are complete.
            write_json(folder / DESCRIPTION, description)
        self._map()

    @staticmethod
    def most_bytes(count: int, words: int) -> int:
        """Size of a store in which all entries are present."""
        return count * (1 + _WORD * (1 + words))

    @property
    def bytes_on_disk(self) -> int:
        """Size of the present entries."""
        states = [(self.folder / name).stat() for name in (_DATA, _MARKS)]
        # In blocks of 512 bytes, regardless of the disk's block size; not every system counts them.
        return sum(
            512 * state.st_blocks if hasattr(state, "st_blocks") else state.st_size
            for state in states
        )

    def read(self, numbers: Numbers) -> tuple[Entries, npt.NDArray[np.bool_]]:
        """Copies of entries ``numbers``, (R,).

        Returns:
            The entries (R, W), and which of them are present (R,); the others hold anything.
        """
        marked = self._marks.take(numbers) != 0
        if marked.all():
            lines = self._file.take(numbers, axis=0)
        else:
            lines = np.zeros((len(numbers), 1 + self.words), dtype=np.uint64)
            lines[marked] = self._file.take(numbers[marked], axis=0)
        # Checksums of the copy, which no other process can change any more.
        return lines[:, 1:], lines[:, 0] == _checksums(numbers, lines[:, 1:])

    def write(self, numbers: Numbers, entries: Entries) -> None:
        """Write entries ``numbers``, (R, W); fewer words are filled up with zeros.

        Raises:
            OSError: There is no room; no present entry is lost.
        """
        lines = np.zeros((len(entries), 1 + self.words), dtype=np.uint64)
        lines[:, 1 : 1 + entries.shape[1]] = entries
        lines[:, 0] = _checksums(numbers, lines[:, 1:])
        self._write_lines(_DATA, numbers, lines)
        self._write_lines(_MARKS, numbers, np.ones((len(numbers), 1), dtype=np.uint8))

    def __getstate__(self) -> dict[str, Any]:
        # A copy, in this process or in another, maps the same files.
        return {key: value for key, value in vars(self).items() if key not in ("_file", "_marks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def _make_file(self, name: str, size: int) -> None:
        """Make a file of one hole unless it is there; several processes may do so at once."""
        path = self.folder / name
        if self.is_new:
            with path.open("ab") as file:
                if file.tell() < size:
                    file.truncate(size)
        found = path.stat().st_size if path.is_file() else "no"
        if found != size:
            raise ValueError(
                f"{path} is damaged: it has {found} bytes instead of {size}. Restore it, or delete "
                f"{self.folder} to have it computed again"
            )

    def _write_lines(self, name: str, numbers: Numbers, lines: npt.NDArray[Any]) -> None:
        """Write lines (R, …) to a file, not to its map: there, a full disk kills the process."""
        path = self.folder / name
        with writing(path), path.open("r+b") as file:
            for number, line in zip(numbers.tolist(), lines, strict=True):
                file.seek(number * line.nbytes)
                file.write(line.data)

    def _map(self) -> None:
        def mapped(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
            return np.asarray(np.memmap(self.folder / name, dtype=dtype, mode="r", shape=shape))

        self._file = mapped(_DATA, np.uint64, (self.count, 1 + self.words))
        self._marks = mapped(_MARKS, np.uint8, (self.count,))


def _checksums(numbers: Numbers, entries: Entries) -> Entries:
    """The checksums of entries, (R,).

    Each is the sum modulo 2^64 of the number and all halves of words, each multiplied by a random
    odd constant for its place (multilinear hashing; Dietzfelbinger et al. 1997). It always detects
    another number or one changed half; other damage goes unnoticed with a probability of about
    2^-32.
    """
    halves = entries.view(np.uint32)
    factors = _factors(1 + halves.shape[1])
    total = np.einsum("ij,j->i", halves, factors[1:])
    total += (numbers + 1).astype(np.uint64) * factors[0]
    # A hole reads as 0.
    return np.maximum(total, np.uint64(1))


@cache
def _factors(count: int) -> Entries:
    """Random odd numbers, the same in every call."""
    # The bare generator is the same in every version of numpy.
    factors: Entries = np.random.PCG64(0).random_raw(count) | np.uint64(1)
    return factors


def _check_description(folder: Path, description: Mapping[str, Any]) -> None:
    found = read_json(folder / DESCRIPTION)
    for name in sorted({*found, *description}):
        if found.get(name) != description.get(name):
            raise ValueError(
                f"{folder} holds features of another kind: their {name} is {found.get(name)!r}, "
                f"not {description.get(name)!r}; give the folder around it, in which each kind has "
                "a folder of its own"
            )
