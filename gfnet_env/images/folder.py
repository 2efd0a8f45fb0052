"""Pictures in a folder tree, one folder per class."""

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.digest import digest
from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, Numbers
from gfnet_env.images.decoded import Decoded, OnDisk
from gfnet_env.images.large import SLIDES, load_square, open_large
from gfnet_env.images.picture import (
    SUFFIXES,
    Fit,
    check_fitting,
    decode,
    picture_size,
)
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.registry import IMAGES, SPLITS
from gfnet_env.paths import user_path
from gfnet_env.registry import split_items

EXTENSIONS = SLIDES | SUFFIXES
_ENDINGS = tuple(EXTENSIONS)
# Share of val, and of test, in a tree without splits.
_HELD_OUT_SHARE = 0.15


class Files(Sequence[Path]):
    """Paths of files, kept as text, which takes a third of the memory.

    Args:
        paths: The paths.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = [os.fspath(path) for path in paths]

    def __len__(self) -> int:
        return len(self._paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and self._paths == other._paths

    def __hash__(self) -> int:
        return hash(tuple(self._paths))

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> "Files": ...

    def __getitem__(self, index: int | slice) -> "Path | Files":
        found = self._paths[index]
        return Path(found) if isinstance(found, str) else Files(found)


class FolderImages(PictureImages):
    """Picture files of any size, shape and mode.

    Args:
        files: The picture files.
        labels: Classes of the pictures, (N,).
        class_names: One name per class.
        image_size: Side of square pictures, in pixels.
        fit: How pictures are brought to a shape: ``whole`` keeps their shape and resolution;
            ``crop`` resizes the shorter side to ``image_size`` and takes the centre; ``stretch``
            resizes both sides to ``image_size``.
        crop: Share of a square's side that is kept: pictures are brought to squares of
            ``int(image_size / crop)`` and cropped to the middle. It does not apply to whole
            pictures.
        workers: See ``PictureImages``.
        memory_limit: See ``PictureImages``.

    Attributes:
        files: The picture files.

    Raises:
        ValueError: A number is out of range, or ``fit`` is unknown; or, when a picture is read, it
            cannot be decoded. The message names the file.
    """

    def __init__(
        self,
        files: Iterable[str | Path],
        labels: npt.ArrayLike,
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
        self.files = files if isinstance(files, Files) else Files(files)
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        self.class_names = tuple(class_names)
        self.fit = fit
        self.fixed_size = None if fit == "whole" else (image_size, image_size)
        self.fitting = (None if fit == "whole" else image_size, fit, crop)
        self._originals: FolderImages | None = None

    @property
    def originals(self) -> "FolderImages":
        """The same pictures, whole; none of them is kept in memory."""
        if self.fit == "whole":
            return self
        if self._originals is None:
            self._originals = FolderImages(
                self.files,
                self.labels.numpy(),
                self.class_names or (),
                workers=self._threads.workers,
                memory_limit=0,
            )
        return self._originals

    def digest(self) -> str:
        """The digest of the files' classes, names, sizes and mtimes, and of the fit.

        No picture is read. Moving the folder does not change the digest.
        """
        files = [
            (file.parent.name, file.name, state.st_size, state.st_mtime_ns)
            for file in self.files
            for state in [file.stat()]
        ]
        return digest("folder", self.fitting, files)

    def _called(self, index: int) -> str:
        return str(self.files[index])

    def _pixels_to_decode(self, index: int) -> int:
        pixels = super()._pixels_to_decode(index)
        is_on_disk = pixels > 0 and open_large(self.files[index]) is not None
        return 0 if is_on_disk else pixels

    def _measure(self, index: int) -> Sequence[int]:
        large = open_large(self.files[index])
        return picture_size(self.files[index]) if large is None else large.shape[:2]

    def _read(self, indices: Numbers) -> Tensor | list[Decoded | OnDisk]:
        if self.fixed_size is None:
            return [self._whole(index) for index in indices.tolist()]
        files = [self.files[index] for index in indices]
        pixels = np.empty((len(files), *self.fixed_size, 3), dtype=np.uint8)
        side, (_, fit, crop) = self.fixed_size[0], self.fitting

        def read(row: int) -> None:
            pixels[row] = load_square(files[row], side, fit, crop, self._threads.alone)

        self._threads.map(read, range(len(files)))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _whole(self, index: int) -> Decoded | OnDisk:
        """One whole picture."""
        large = open_large(self.files[index])
        picture = Decoded(decode(self.files[index])) if large is None else OnDisk(large)
        _, height, width = picture.shape
        if (known := self._known_sizes[index]).any() and (height, width) != tuple(known):
            raise ValueError(
                f"{self.files[index]} is {height}×{width}, and not {known[0]}×{known[1]} as its "
                "header said; save it again"
            )
        return picture


@IMAGES.register("folder")
def open_folder(
    path: Path,
    split: str,
    fit: Fit = "whole",
    *,
    seed: int = 0,
    image_size: int = 224,
    crop: float = 1,
    workers: int = 4,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
) -> FolderImages:
    """Open one split of a folder tree; see ``FolderImages`` for the arguments that they share.

    The tree is ``{train,val,test}/CLASS/*``, or ``CLASS/*``, which ``seed`` splits class by class.

    Raises:
        FileNotFoundError: The folder or its split is missing.
        ValueError: A class is empty, or a split has a class that ``train`` lacks.
    """
    root = user_path(path)
    if not root.is_dir():
        # Networks remember the folder that was given, and may be used from another place.
        place = "" if root.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(
            f"there is no folder {root}{place}; give one with a folder per class in it"
        )
    by_class = split_on_disk(root, split) if _has_splits(root) else _split(root, split, seed)
    return FolderImages(
        *listed(by_class),
        tuple(by_class),
        image_size=image_size,
        fit=fit,
        crop=crop,
        workers=workers,
        memory_limit=memory_limit,
    )


def folder_split_by_seed(spec: str) -> Path | None:
    """The folder of a spec, if its splits depend on a seed; else None."""
    name, _, rest = spec.partition(":")
    if name != "folder" or not rest:
        return None
    root = user_path(split_items(rest)[0].removeprefix("path="))
    return root.resolve() if root.is_dir() and not _has_splits(root) else None


def _has_splits(root: Path) -> bool:
    """Whether a tree is ``SPLIT/CLASS/*``; a class may have the name of a split."""
    folders = _folders(root)
    splits = [each for each in folders if each.name in SPLITS]
    return bool(splits) and (len(splits) == len(folders) or any(map(_folders, splits)))


def _folders(root: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones, which programs make."""
    return sorted(
        entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def listed(by_class: Mapping[str, Sequence[str]]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """All files of some classes, and their labels: the positions of their classes."""
    files = list(itertools.chain.from_iterable(by_class.values()))
    return files, np.repeat(np.arange(len(by_class)), [len(each) for each in by_class.values()])


def split_on_disk(root: Path, split: str) -> dict[str, list[str]]:
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
    others = [each for each in _folders(root) if each.name not in SPLITS]
    alike = [each.name for each in others if any((each / name).is_dir() for name in class_names)]
    _warn_of_left_out(root, alike, "are no splits")
    return {name: _pictures(root / split / name) for name in class_names}


def _split(root: Path, split: str, seed: int) -> dict[str, list[str]]:
    """The pictures of each class in one split that a seed makes of a tree ``CLASS/*``."""
    by_class = {}
    for name in _class_names(root):
        files = _pictures(root / name)
        if len(files) < len(SPLITS):
            raise ValueError(f"{root / name} has {len(files)} pictures; three splits need three")
        held_out = max(1, round(_HELD_OUT_SHARE * len(files)))
        order = np.random.default_rng(seed).permutation(len(files))
        parts = np.split(order, [len(files) - 2 * held_out, len(files) - held_out])
        by_class[name] = [files[index] for index in parts[SPLITS.index(split)]]
    return by_class


def _class_names(folder: Path) -> list[str]:
    names = [entry.name for entry in _folders(folder)]
    if not names:
        raise ValueError(f"{folder} has no class folders; put each class's pictures into its own")
    loose = [entry.name for entry in folder.iterdir() if _is_picture(entry)]
    _warn_of_left_out(folder, loose, "are in no folder of a class")
    return names


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; every class of train/ needs one")
    files, left_out = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # A path knows what to make of a link to nowhere, or to itself; an entry is faster.
            is_file = Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()
            if is_file and entry.name.lower().endswith(_ENDINGS):
                files.append(entry.path)
            else:
                left_out.append(entry.name)
    if not files:
        raise ValueError(
            f"the class folder {folder} has no pictures ({', '.join(sorted(EXTENSIONS))}); "
            "add some or remove the folder"
        )
    _warn_of_left_out(folder, left_out, "are not files of pictures")
    return sorted(files)


def _is_picture(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return not is_hidden and path.suffix.lower() in EXTENSIONS and path.is_file()


def _warn_of_left_out(folder: Path, names: Sequence[str], why: str) -> None:
    if names:
        listed = ", ".join(sorted(names)[:3]) + ", …" * (len(names) > 3)
        warnings.warn(
            f"entries of {folder} are left out ({len(names)}), since they {why}: {listed}",
            stacklevel=2,
        )
