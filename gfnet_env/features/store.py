"""Records by number in one sparse file that many processes may read and write at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfnet_env.files import read_json, write_json, writing

DESCRIPTION = "store.json"
_DATA = "records.bin"
_MARKS = "marks.bin"
_WORD = 8

Records = npt.NDArray[np.uint8]


class RecordStore:
    """Records of one size, each of which is there or not.

    The file holds record number n at n times its size; what was never written is a hole that takes
    no place on disk. A record begins with a checksum of what follows. One whose checksum is wrong
    counts as not there: it was never written, a kill came in between, another process is writing it
    now, or the disk lost it. So nothing needs a lock, and nothing wrong is ever read.

    A second file has a mark for every record that was written. It only saves looking into holes,
    which is slow; what it says is not relied on.

    Args:
        folder: Of the store; made where it is missing.
        description: What the records are, JSON. A folder holds the records of one description.
        count: How many records there may be.
        record_bytes: Size of a record, in bytes.

    Raises:
        ValueError: The folder holds records of another description, or a file of it was cut off.
        OSError: The folder cannot be written.
    """

    def __init__(
        self, folder: Path, description: Mapping[str, Any], count: int, record_bytes: int
    ) -> None:
        self.folder = folder
        self.count = count
        self.record_bytes = record_bytes
        self._words = 1 + -(-record_bytes // _WORD)
        self.is_new = not (folder / DESCRIPTION).is_file()
        if not self.is_new:
            _check_description(folder, description)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_file(_DATA, count * self._words * _WORD)
        self._make_file(_MARKS, count)
        if self.is_new:
            # Last, since it says that the files have their sizes.
            write_json(folder / DESCRIPTION, description)
        self._map()

    @staticmethod
    def most_bytes(count: int, record_bytes: int) -> int:
        """What a store takes when all its records are there."""
        return count * (1 + _WORD * (1 + -(-record_bytes // _WORD)))

    @property
    def bytes_on_disk(self) -> int:
        """What the records that are there take."""
        states = [(self.folder / name).stat() for name in (_DATA, _MARKS)]
        # Blocks of 512 bytes, whatever those of the disk are; not every system counts them.
        return sum(
            512 * state.st_blocks if hasattr(state, "st_blocks") else state.st_size
            for state in states
        )

    def read(self, numbers: npt.NDArray[np.int64]) -> tuple[Records, npt.NDArray[np.bool_]]:
        """Copies of some records.

        Args:
            numbers: Which, (R,).

        Returns:
            The records (R, record_bytes), and which of them are there (R,); the others hold
            anything.
        """
        there = self._marks.take(numbers) != 0
        if there.all():
            words = self._file.take(numbers, axis=0)
        else:
            words = np.zeros((len(numbers), self._words), dtype=np.uint64)
            words[there] = self._file.take(numbers[there], axis=0)
        # Judged by the copy, which no other process changes any more.
        there = words[:, 0] == _checksums(words[:, 1:])
        return words[:, 1:].view(np.uint8)[:, : self.record_bytes], there

    def write(self, numbers: npt.NDArray[np.int64], records: Records) -> None:
        """Put some records where they belong, (R, record_bytes), whatever was there before.

        Raises:
            OSError: There is no room; no record that was there is lost.
        """
        words = np.empty((len(records), self._words), dtype=np.uint64)
        # A record need not fill its last word.
        words[:, -1] = 0
        words[:, 1:].view(np.uint8)[:, : self.record_bytes] = records
        words[:, 0] = _checksums(words[:, 1:])
        self._write_rows(_DATA, numbers, words)
        self._write_rows(_MARKS, numbers, np.ones((len(numbers), 1), dtype=np.uint8))

    def __getstate__(self) -> dict[str, Any]:
        # A copy, in this process or in another, shares the file.
        return {
            key: value for key, value in self.__dict__.items() if key not in ("_file", "_marks")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def _make_file(self, name: str, size: int) -> None:
        """Make a file of holes, where it is missing; several processes may do so at once."""
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

    def _write_rows(
        self, name: str, numbers: npt.NDArray[np.int64], rows: npt.NDArray[Any]
    ) -> None:
        """Write rows (R, …) of a file, not by its map: there a full disk would end the process."""
        path = self.folder / name
        with writing(path), path.open("r+b") as file:
            for number, row in zip(numbers.tolist(), rows, strict=True):
                file.seek(number * row.nbytes)
                file.write(row.data)

    def _map(self) -> None:
        def mapped(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
            return np.asarray(np.memmap(self.folder / name, dtype=dtype, mode="r", shape=shape))

        self._file = mapped(_DATA, np.uint64, (self.count, self._words))
        self._marks = mapped(_MARKS, np.uint8, (self.count,))


def _checksums(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Of each row the sum modulo 2^64, but never 0, which is what a hole holds."""
    return np.maximum(words.sum(axis=1), np.uint64(1))


def _check_description(folder: Path, description: Mapping[str, Any]) -> None:
    found = read_json(folder / DESCRIPTION)
    for name in sorted({*found, *description}):
        if found.get(name) != description.get(name):
            raise ValueError(
                f"{folder} holds features of another kind: their {name} is {found.get(name)!r}, "
                f"not {description.get(name)!r}; give the folder around it, in which each kind has "
                "a folder of its own"
            )
