"""Pictures in a folder tree, one folder per class."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data.images import ImageSet
from gfnet_env.data.picture import Crop, load_picture
from gfnet_env.digest import digest

SPLITS = ("train", "val", "test")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# Share of val and of test in a tree that has no splits of its own.
HELD_OUT_SHARE = 0.15
DEFAULT_MEMORY_LIMIT = 2**30


class FolderImages(ImageSet):
    """Picture files, decoded when asked for by a pool of threads.

    Pictures of any size, shape and mode become RGB, their shorter side resized to ``image_size``
    and the centre cropped to a square. Decoded pictures are kept in memory where all of them fit
    the limit; random crops, which are others every time, never are.

    Args:
        files: The picture files.
        labels: Their classes, (N,).
        class_names: One name per class.
        image_size: Side of the square pictures, in pixels.
        workers: Threads that decode; with 0 the thread that asks decodes.
        memory_limit: Bytes that decoded pictures may take; 0 keeps none.

    Raises:
        ValueError: When asked for a picture that cannot be decoded; the message names the file.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        class_names: Sequence[str],
        *,
        image_size: int = 224,
        workers: int = 4,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, not {image_size}")
        if workers < 0:
            raise ValueError(f"workers must be at least 0, not {workers}")
        if memory_limit < 0:
            raise ValueError(f"memory_limit must be at least 0 bytes, not {memory_limit}")
        self.files = tuple(files)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self._workers = workers
        fits = len(self.files) * 3 * image_size**2 <= memory_limit
        shape = (len(self.files) if fits else 0, 3, image_size, image_size)
        self._kept = torch.empty(shape, dtype=torch.uint8)
        self._is_kept = np.zeros(len(self.files), dtype=bool)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="decode")

    def __getstate__(self) -> dict[str, Any]:
        # Threads stay behind when a set is copied or sent to another process.
        return {key: value for key, value in self.__dict__.items() if key != "_pool"}

    def digest(self) -> str:
        """The digest of the files' classes, names, sizes and times of change, and the image size.

        No picture is read, and a folder that is moved as it is stays the same set.
        """
        files = [
            (file.parent.name, file.name, state.st_size, state.st_mtime_ns)
            for file in self.files
            for state in [file.stat()]
        ]
        return digest("folder", self.image_size, files)

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        if len(self._kept) == 0:
            return self._decode(indices)
        missing = np.unique(indices[~self._is_kept[indices]])
        if len(missing):
            self._kept[torch.from_numpy(missing)] = self._decode(missing)
            self._is_kept[missing] = True
        return self._kept[torch.from_numpy(indices)]

    def _read_crops(self, indices: npt.NDArray[np.int64], crops: Sequence[Crop]) -> Tensor:
        return self._decode(indices, crops)

    def _decode(
        self, indices: npt.NDArray[np.int64], crops: Iterable[Crop | None] = repeat(None)
    ) -> Tensor:
        side = self.image_size
        pixels = np.empty((len(indices), side, side, 3), dtype=np.uint8)

        def decode(row: int, index: int, crop: Crop | None) -> None:
            pixels[row] = load_picture(self.files[index], side, crop)

        decode_all = self._pool.map if self._workers else map
        for _ in decode_all(decode, range(len(indices)), indices.tolist(), crops):
            pass
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def open_folder(
    root: Path,
    split: str,
    *,
    image_size: int = 224,
    seed: int = 0,
    workers: int = 4,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
) -> FolderImages:
    """One split of a folder tree.

    Args:
        root: Holds ``{train,val,test}/CLASS/*``, or ``CLASS/*``, which is then split by ``seed``,
            class by class.
        split: ``train``, ``val`` or ``test``.
        image_size: Side the pictures are brought to, in pixels.
        seed: Decides the splits of a tree that has none.
        workers: Threads that decode.
        memory_limit: Bytes that decoded pictures may take.

    Raises:
        FileNotFoundError: The folder or its split is missing.
        ValueError: A class is empty, or a split has a class that ``train`` lacks.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; give one with a folder per class in it"
        )
    by_class = split_on_disk(root, split) if has_splits(root) else _split_by_seed(root, split, seed)
    files = [file for class_files in by_class.values() for file in class_files]
    labels = [label for label, class_files in enumerate(by_class.values()) for _ in class_files]
    return FolderImages(
        files,
        labels,
        tuple(by_class),
        image_size=image_size,
        workers=workers,
        memory_limit=memory_limit,
    )


def has_splits(root: Path) -> bool:
    """Whether a tree has splits of its own, which no seed changes."""
    return any((root / name).is_dir() for name in SPLITS)


def split_on_disk(root: Path, split: str) -> dict[str, list[Path]]:
    """The pictures of each class of ``train`` in one split of a tree ``SPLIT/CLASS/*``.

    Raises:
        FileNotFoundError: The split, ``train`` or the folder of a class is missing.
        ValueError: A class is empty, or the split has a class that ``train`` lacks.
    """
    for folder in (root / "train", root / split):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{root} has no {folder.name}/; add it, or put the class folders straight into "
                f"{root} to have them split"
            )
    class_names = _class_names(root / "train")
    unknown = set(_class_names(root / split)) - set(class_names)
    if unknown:
        raise ValueError(
            f"{root / split} has the class {sorted(unknown)[0]!r}, which {root / 'train'} lacks; "
            "a network cannot learn it: add it to train/ or remove it"
        )
    return {name: _pictures(root / split / name) for name in class_names}


def _split_by_seed(root: Path, split: str, seed: int) -> dict[str, list[Path]]:
    by_class = {}
    for name in _class_names(root):
        files = _pictures(root / name)
        if len(files) < len(SPLITS):
            raise ValueError(f"{root / name} has {len(files)} pictures; three splits need three")
        shuffled = [files[index] for index in np.random.default_rng(seed).permutation(len(files))]
        held_out = max(1, round(HELD_OUT_SHARE * len(files)))
        first_test = len(files) - held_out
        first_val = first_test - held_out
        parts = {
            "train": shuffled[:first_val],
            "val": shuffled[first_val:first_test],
            "test": shuffled[first_test:],
        }
        by_class[name] = parts[split]
    return by_class


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise ValueError(f"{folder} has no class folders; put each class's pictures into its own")
    return names


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; every class of train/ needs one")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)
    if not files:
        raise ValueError(
            f"the class folder {folder} has no pictures ({', '.join(sorted(EXTENSIONS))}); "
            "add some or remove the folder"
        )
    return files
