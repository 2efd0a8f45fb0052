"""Image sets by name: one string says which pictures, and travels into checkpoints."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfnet_env.data.clutter import Clutter, ClutteredScenes
from gfnet_env.data.download import ensure_downloaded
from gfnet_env.data.folder import (
    DEFAULT_MEMORY_LIMIT,
    SPLITS,
    FolderImages,
    has_splits,
    open_folder,
)
from gfnet_env.data.images import ImageSet

DEFAULT_SPEC = "cluttered-digits"
# The splits of the scanned digits are part of the data sets, so no seed of a user's changes them.
_DIGIT_SPLIT_SEED = 0

_Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class _Source:
    """Where an image set comes from besides its spec."""

    split: str
    image_size: int
    seed: int
    data_root: Path
    workers: int
    memory_limit: int


def load_images(
    spec: str = DEFAULT_SPEC,
    split: str = "train",
    *,
    image_size: int = 224,
    seed: int = 0,
    data_root: str | Path = "data",
    workers: int = 4,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
) -> ImageSet:
    """Open one split of an image set.

    Args:
        spec: ``NAME`` or ``NAME:OPTION=VALUE,…`` with NAME one of ``cluttered-digits``,
            ``cluttered-mnist``, ``cluttered-mnist-60`` and ``cluttered-mnist-100`` and options
            ``canvas``, ``digit``, ``pieces``, ``piece`` (pixels; see ``Clutter``), ``scenes``, of
            every split, and ``train``, scenes of that split;
            or ``folder:PATH``, a tree ``PATH/{train,val,test}/CLASS/*`` or ``PATH/CLASS/*``;
            or a published set: ``imagenette``, ``flowers102``, ``oxford-iiit-pet``, ``gtsrb`` or
            ``imagenet``.
        split: ``train``, ``val`` or ``test``; ``list_published`` says what they are of a published
            set.
        image_size: Side that pictures are brought to, in pixels; scenes have their own.
        seed: Seed of the scenes, and of the splits of a folder that has none.
        data_root: Folder that holds downloaded data sets, laid out as torchvision does it, or that
            they are downloaded to. ImageNet's archives have to be put there by hand.
        workers: Threads that decode pictures; with 0 the thread that reads decodes.
        memory_limit: Bytes that the decoded pictures of this split may take; where they would take
            more, they are decoded again each time.

    Raises:
        ValueError: The spec, one of its options or the split is unknown or wrong; a split has a
            class that ``train`` lacks; or a published set is there in part only.
        FileNotFoundError: The folder is missing.
        OSError: A data set could not be downloaded.
    """
    name, _, rest = spec.partition(":")
    if name not in IMAGE_SETS:
        close = difflib.get_close_matches(name, IMAGE_SETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown image set {name!r}; {hint}known: {', '.join(IMAGE_SETS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    source = _Source(split, image_size, seed, Path(data_root), workers, memory_limit)
    return IMAGE_SETS[name](rest, source)


def folder_split_by_seed(spec: str) -> Path | None:
    """The folder of a spec of which a seed makes the splits, so that another seed makes others."""
    name, _, path = spec.partition(":")
    root = Path(path)
    return root.resolve() if name == "folder" and root.is_dir() and not has_splits(root) else None


def _folder(path: str, source: _Source) -> ImageSet:
    if not path:
        raise ValueError("the image set 'folder' needs a path: folder:PATH")
    return open_folder(
        Path(path),
        source.split,
        image_size=source.image_size,
        seed=source.seed,
        workers=source.workers,
        memory_limit=source.memory_limit,
    )


# Those of ``PUBLISHED``, which is imported only where one of them is asked for.
_PUBLISHED = ("imagenette", "flowers102", "oxford-iiit-pet", "gtsrb", "imagenet")


def _published(name: str) -> Callable[[str, _Source], ImageSet]:
    def open_published(options: str, source: _Source) -> ImageSet:
        if options:
            raise ValueError(f"the image set {name!r} has no options, {options!r} is given")
        # torchvision is dear to import, and most sets do without.
        from gfnet_env.data.published import list_published

        listing = list_published(name, source.data_root, source.split)
        return FolderImages(
            listing.files,
            listing.labels,
            listing.class_names,
            image_size=source.image_size,
            workers=source.workers,
            memory_limit=source.memory_limit,
        )

    return open_published


def _scanned_digits(source: _Source) -> _Digits:
    """scikit-learn's 1,797 scanned digits (8×8, 16 grey levels): 60% train, 20% val, 20% test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_DIGIT_SPLIT_SEED).permutation(len(labels))
    first, second = int(0.6 * len(labels)), int(0.8 * len(labels))
    chosen = np.split(order, [first, second])[SPLITS.index(source.split)]
    grey = (pixels[chosen].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    return grey, labels[chosen].astype(np.int64)


def _mnist_digits(source: _Source) -> _Digits:
    """MNIST: 54,000 of the training digits, the other 6,000 (val) or the 10,000 test digits."""
    from torchvision.datasets import MNIST

    root = source.data_root
    ensure_downloaded("MNIST", root, "MNIST", lambda target: MNIST(target, download=True))
    try:
        mnist = MNIST(root, train=source.split != "test")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{root / 'MNIST'} is incomplete ({error}); delete it to have it downloaded again, or "
            "give another folder with --data-root"
        ) from error
    pixels, labels = mnist.data.numpy(), mnist.targets.numpy().astype(np.int64)
    if source.split == "test":
        return pixels, labels
    order = np.random.default_rng(_DIGIT_SPLIT_SEED).permutation(len(labels))
    first = int(0.9 * len(labels))
    chosen = order[:first] if source.split == "train" else order[first:]
    return pixels[chosen], labels[chosen]


def _cluttered(
    digits: Callable[[_Source], _Digits], clutter: Clutter, scenes: Mapping[str, int]
) -> Callable[[str, _Source], ImageSet]:
    def open_scenes(options: str, source: _Source) -> ImageSet:
        known = [*(field.name for field in dataclasses.fields(Clutter)), "scenes", "train"]
        changes = _parse_options(options, known)
        count = changes.pop("scenes", scenes[source.split])
        # Taken out in any case, since it is no option of a scene.
        of_train = changes.pop("train", count)
        count = of_train if source.split == "train" else count
        pixels, labels = digits(source)
        return ClutteredScenes(
            pixels,
            labels,
            dataclasses.replace(clutter, **changes),
            scenes=count,
            seed=source.seed,
            split=SPLITS.index(source.split),
        )

    return open_scenes


def _parse_options(options: str, known: list[str]) -> dict[str, Any]:
    """``a=1,b=2`` as a dict of integers."""
    parsed = {}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key not in known:
            raise ValueError(f"unknown image set option {key!r}; known: {', '.join(known)}")
        try:
            parsed[key] = int(value)
        except ValueError:
            raise ValueError(f"image set option {key} needs an integer, not {value!r}") from None
    return parsed


IMAGE_SETS: dict[str, Callable[[str, _Source], ImageSet]] = {
    "cluttered-digits": _cluttered(
        _scanned_digits,
        Clutter(canvas=128, digit=20, pieces=10, piece=10),
        {"train": 20_000, "val": 2_000, "test": 2_000},
    ),
    "cluttered-mnist": _cluttered(
        _mnist_digits,
        Clutter(canvas=128, digit=28, pieces=8, piece=12),
        {"train": 54_000, "val": 6_000, "test": 10_000},
    ),
    # The two settings of "Recurrent Models of Visual Attention" (NIPS 2014 and arXiv v1).
    "cluttered-mnist-60": _cluttered(
        _mnist_digits,
        Clutter(canvas=60, digit=28, pieces=4, piece=8),
        {"train": 54_000, "val": 6_000, "test": 10_000},
    ),
    "cluttered-mnist-100": _cluttered(
        _mnist_digits,
        Clutter(canvas=100, digit=28, pieces=8, piece=8),
        {"train": 54_000, "val": 6_000, "test": 10_000},
    ),
    "folder": _folder,
    **{name: _published(name) for name in _PUBLISHED},
}
