"""Pictures in a folder tree, one folder per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from gfnet_env.digest import digest
from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, Numbers
from gfnet_env.images.picture import (
    Fit,
    as_array,
    check_fitting,
    decode,
    load_picture,
    picture_size,
)
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.registry import IMAGES, SPLITS, Opening
from gfnet_env.registry import split_items

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# Share of val and of test in a tree that has no splits of its own.
HELD_OUT_SHARE = 0.15


class FolderImages(PictureImages):
    """Picture files of any size, shape and mode, decoded when asked for by a pool of threads.

    Args:
        files: The picture files.
        labels: Their classes, (N,).
        class_names: One name per class.
        image_size: Side of square pictures, in pixels.
        fit: What becomes of a picture's shape: ``whole`` pictures keep it, and their resolution;
            ``crop`` resizes the shorter side to ``image_size`` and takes the centre; ``stretch``
            resizes both sides to ``image_size``.
        crop: Share of a square's side that is kept: pictures are brought to squares of
            ``int(image_size / crop)``, and the middle of those is taken. Whole pictures have none.
        workers: Threads that decode; with 0 the thread that asks decodes.
        memory_limit: Bytes that decoded pictures may take; 0 keeps none.

    Attributes:
        files: The picture files.

    Raises:
        ValueError: A number is out of range, or ``fit`` unknown; or, when asked for a picture that
            cannot be decoded; the message names the file.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        class_names: Sequence[str],
        *,
        image_size: int = 224,
        fit: Fit = "whole",
        crop: float = 1,
        workers: int = 4,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        check_fitting(image_size, fit, crop)
        super().__init__(workers=workers, memory_limit=memory_limit)
        self.files = tuple(files)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.class_names = tuple(class_names)
        self.fit = fit
        self.fixed_size = None if fit == "whole" else (image_size, image_size)
        self.fitting = (None if fit == "whole" else image_size, fit, crop)
        # Zeros until a header has been read.
        self._known_sizes = np.zeros((len(self.files), 2), dtype=np.int64)
        self._originals: FolderImages | None = None

    @property
    def originals(self) -> "FolderImages":
        """The same pictures, whole; none of them is kept."""
        if self.fit == "whole":
            return self
        if self._originals is None:
            self._originals = FolderImages(
                self.files,
                self.labels.tolist(),
                self.class_names or (),
                workers=self._threads.workers,
                memory_limit=0,
            )
        return self._originals

    def digest(self) -> str:
        """The digest of the files' classes, names, sizes and mtimes, and of the fit.

        No picture is read, and a folder that is moved as it is stays the same set.
        """
        files = [
            (file.parent.name, file.name, state.st_size, state.st_mtime_ns)
            for file in self.files
            for state in [file.stat()]
        ]
        return digest("folder", self.fitting, files)

    def _sizes(self, indices: Numbers) -> Tensor:
        if self.fixed_size is not None:
            return super()._sizes(indices)
        unknown = np.unique(indices[self._known_sizes[indices, 0] == 0])
        if len(unknown):
            files = [self.files[index] for index in unknown]
            self._known_sizes[unknown] = self._threads.map(picture_size, files)
        return torch.from_numpy(self._known_sizes[indices])

    def _read(self, indices: Numbers) -> Tensor | list[Tensor]:
        files = [self.files[index] for index in indices]
        if self.fixed_size is None:
            return [self._whole(index) for index in indices.tolist()]
        pixels = np.empty((len(files), *self.fixed_size, 3), dtype=np.uint8)

        def read(row: int) -> None:
            pixels[row] = load_picture(files[row], *self.fitting)

        self._threads.map(read, range(len(files)))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _whole(self, index: int) -> Tensor:
        """One whole picture in the memory that it was decoded to, (3, h, w) or (1, h, w)."""
        pixels = as_array(decode(self.files[index]))
        if (known := self._known_sizes[index]).any() and pixels.shape[:2] != tuple(known):
            raise ValueError(
                f"{self.files[index]} is {pixels.shape[0]}×{pixels.shape[1]}, and not "
                f"{known[0]}×{known[1]} as its header said; save it anew"
            )
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


class FolderOptions(TypedDict, total=False):
    """Arguments of ``FolderImages`` that have defaults."""

    image_size: int
    fit: Fit
    crop: float
    workers: int
    memory_limit: int


def folder_options(opening: Opening, fit: Fit) -> FolderOptions:
    """What ``load_images`` tells a set of picture files."""
    return FolderOptions(
        image_size=opening["image_size"],
        fit=fit,
        crop=opening["crop"],
        workers=opening["workers"],
        memory_limit=opening["memory_limit"],
    )


@IMAGES.register("folder")
def _folder(path: str = "", fit: Fit = "whole", **opening: Unpack[Opening]) -> FolderImages:
    if not path:
        raise ValueError("the image set 'folder' needs a path: folder:PATH")
    options = folder_options(opening, fit)
    return open_folder(Path(path), opening["split"], seed=opening["seed"], **options)


def folder_split_by_seed(spec: str) -> Path | None:
    """The folder of a spec whose splits a seed makes, so that another seed makes others."""
    name, _, rest = spec.partition(":")
    if name != "folder" or not rest:
        return None
    root = Path(split_items(rest, {})[0].removeprefix("path=")).expanduser()
    return root.resolve() if root.is_dir() and not has_splits(root) else None


def open_folder(
    root: Path, split: str, *, seed: int = 0, **options: Unpack[FolderOptions]
) -> FolderImages:
    """One split of a folder tree.

    Args:
        root: Holds ``{train,val,test}/CLASS/*``, or ``CLASS/*``, which is then split by ``seed``,
            class by class.
        split: ``train``, ``val`` or ``test``.
        seed: Decides the splits of a tree that has none.
        options: See ``FolderImages``.

    Raises:
        FileNotFoundError: The folder or its split is missing.
        ValueError: A class is empty, or a split has a class that ``train`` lacks.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; give one with a folder per class in it"
        )
    by_class = split_on_disk(root, split) if has_splits(root) else _split_by_seed(root, split, seed)
    files = [file for class_files in by_class.values() for file in class_files]
    labels = [label for label, class_files in enumerate(by_class.values()) for _ in class_files]
    return FolderImages(files, labels, tuple(by_class), **options)


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
