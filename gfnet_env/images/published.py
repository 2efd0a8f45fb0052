"""Published sets of photographs, as torchvision downloads and lays them out.

torchvision is slow to import and most image sets do without it, so functions import it themselves.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from gfnet_env.images.download import ensure_downloaded
from gfnet_env.images.folder import FolderImages, folder_options, split_on_disk
from gfnet_env.images.picture import Fit
from gfnet_env.images.registry import IMAGES, SPLITS, Opening

# The splits of a published set are part of it, so no seed of a user's changes them.
_SPLIT_SEED = 0
# Share of the training pictures that becomes val where a set has two splits.
_VAL_SHARE = 0.1


@dataclass(frozen=True)
class Listing:
    """Pictures: their files, their classes, and the names of all classes."""

    files: Sequence[Path]
    labels: Sequence[int]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class _Published:
    """A published set.

    Attributes:
        prepare: Downloads it to below a root, unless it is there.
        pictures: Lists one of its own splits.
        splits: Which of its own are train, val and test; train and val share one that is the same.
        group: Names what must not be in two splits; by default every picture by itself.
    """

    prepare: Callable[[Path], None]
    pictures: Callable[[Path, str], Listing]
    splits: tuple[str, str, str]
    group: Callable[[Path], str] = str


def list_published(name: str, root: Path, split: str) -> Listing:
    """The pictures of one split of a published set, which is downloaded if missing.

    Flowers102 has three splits. The others have two: what is published for validation (Imagenette,
    ImageNet) or for testing (Oxford-IIIT Pet, GTSRB) is ``test``, and a tenth of the training
    pictures of each class is ``val``, always the same. GTSRB shows every sign 30 times, and all of
    its pictures are in one split.

    Args:
        name: One of ``PUBLISHED``.
        root: What torchvision calls the root of the set.
        split: ``train``, ``val`` or ``test``.

    Raises:
        OSError: The set is not there and could not be downloaded.
        ValueError: What is there is incomplete, or a split has a class that ``train`` lacks.
    """
    published = PUBLISHED[name]
    published.prepare(root)
    train, val, _ = published.splits
    own = published.splits[SPLITS.index(split)]
    try:
        listing = published.pictures(root, own)
    except (OSError, RuntimeError, LookupError) as error:
        raise ValueError(
            f"{name} in {root} is incomplete ({error}); delete what is there of it to have it "
            "downloaded again, or give another folder with --data-root"
        ) from error
    known, highest = len(listing.class_names), max(listing.labels, default=0)
    if highest >= known:
        raise ValueError(
            f"the split {own} of {name} in {root} has the class {highest}, which "
            f"{train} with its {known} classes lacks; delete what is there of {name} to have it "
            "downloaded again"
        )
    return listing if train != val or split == "test" else _part(listing, split, published.group)


def _part(listing: Listing, split: str, group: Callable[[Path], str]) -> Listing:
    """``train`` or ``val`` of pictures that hold both."""
    by_class: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (file, label) in enumerate(zip(listing.files, listing.labels, strict=True)):
        by_class[label][group(file)].append(row)
    rows: list[int] = []
    for label, groups in sorted(by_class.items()):
        if len(groups) == 1:
            raise ValueError(
                f"the class {listing.class_names[label]!r} has too little to hold some of it out: "
                f"{next(iter(groups))}; the set is incomplete: delete it and download it again"
            )
        order = np.random.default_rng((_SPLIT_SEED, label)).permutation(len(groups))
        held_out = max(1, round(_VAL_SHARE * len(groups)))
        chosen = order[:held_out] if split == "val" else order[held_out:]
        members = list(groups.values())
        rows += [row for number in sorted(chosen) for row in members[number]]
    files = [listing.files[row] for row in rows]
    return Listing(files, [listing.labels[row] for row in rows], listing.class_names)


def _listed(files: Sequence[str | Path], labels: Sequence[int], names: Sequence[str]) -> Listing:
    """What a set says it holds, once all of it is seen to be there."""
    paths = [Path(file) for file in files]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} pictures are missing, {missing[0]} for one"
        )
    return Listing(paths, labels, tuple(names))


def _tree(root: Path, split: str, names: dict[str, tuple[str, ...]]) -> Listing:
    """A set whose folders are WordNet's numbers of the classes."""
    by_class = split_on_disk(root, split)
    files = [file for pictures in by_class.values() for file in pictures]
    labels = [label for label, pictures in enumerate(by_class.values()) for _ in pictures]
    return Listing(files, labels, tuple(names[wnid][0] for wnid in by_class))


def _imagenette(root: Path, split: str) -> Listing:
    from torchvision import datasets

    train = datasets.Imagenette(root, split="train")
    names = dict(zip(train.wnids, train.classes, strict=True))
    return _tree(root / "imagenette2", split, names)


# torchvision publishes no list of the files of the three that follow; only its own has them.
def _flowers102(root: Path, split: str) -> Listing:
    from torchvision import datasets

    flowers = datasets.Flowers102(root, split=split)
    return _listed(flowers._image_files, flowers._labels, flowers.classes)


def _oxford_iiit_pet(root: Path, split: str) -> Listing:
    from torchvision import datasets

    names = datasets.OxfordIIITPet(root, split="trainval").classes
    pets = datasets.OxfordIIITPet(root, split=split)
    return _listed(pets._images, pets._labels, names)


def _gtsrb(root: Path, split: str) -> Listing:
    from torchvision import datasets

    names = datasets.folder.find_classes(root / "gtsrb" / "GTSRB" / "Training")[0]
    files, labels = zip(*datasets.GTSRB(root, split=split)._samples, strict=True)
    return _listed(files, labels, names)


def _sign(file: Path) -> str:
    """Which sign a training picture of GTSRB shows: ``CLASS/SIGN_PICTURE.ppm``."""
    return file.stem.partition("_")[0]


def _imagenet(root: Path, split: str) -> Listing:
    from torchvision.datasets import imagenet

    return _tree(root, split, imagenet.load_meta_file(root)[0])


def _download(folder: str, name: str, splits: Sequence[str]) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        def download(target: Path) -> None:
            from torchvision import datasets

            dataset: Any = getattr(datasets, name)
            for split in splits:
                dataset(target, split=split, download=True)

        ensure_downloaded(name, root, folder, download)

    return prepare


def _unpack_imagenet(root: Path) -> None:
    """Unpack the archives, which only a person can download."""
    from torchvision.datasets import imagenet

    def unpack(part: str, folder: str, parse: Callable[..., None]) -> None:
        archive = (root / imagenet.ARCHIVE_META[part][0]).absolute()
        if not (root / folder).exists() and not archive.is_file():
            raise FileNotFoundError(
                f"there is neither {root / folder} nor {archive}; ImageNet cannot be downloaded "
                "without an account: put its three archives from https://image-net.org there, or "
                "give with --data-root the folder that holds them"
            )
        ensure_downloaded("ImageNet", root, folder, partial(parse, file=str(archive)))

    unpack("devkit", imagenet.META_FILE, imagenet.parse_devkit_archive)
    unpack("train", "train", imagenet.parse_train_archive)
    wnids = imagenet.load_meta_file(root)[1]
    unpack("val", "val", partial(imagenet.parse_val_archive, wnids=wnids))


PUBLISHED = {
    "imagenette": _Published(
        _download("imagenette2", "Imagenette", ["train"]),
        _imagenette,
        ("train", "train", "val"),
    ),
    "flowers102": _Published(
        _download("flowers-102", "Flowers102", ["train"]),
        _flowers102,
        ("train", "val", "test"),
    ),
    "oxford-iiit-pet": _Published(
        _download("oxford-iiit-pet", "OxfordIIITPet", ["trainval"]),
        _oxford_iiit_pet,
        ("trainval", "trainval", "test"),
    ),
    "gtsrb": _Published(
        _download("gtsrb", "GTSRB", ["train", "test"]),
        _gtsrb,
        ("train", "train", "test"),
        _sign,
    ),
    "imagenet": _Published(_unpack_imagenet, _imagenet, ("train", "train", "val")),
}


def _register(name: str) -> None:
    @IMAGES.register(name)
    def open_published(fit: Fit = "crop", **opening: Unpack[Opening]) -> FolderImages:
        listing = list_published(name, opening["data_root"], opening["split"])
        options = folder_options(opening, fit)
        return FolderImages(listing.files, listing.labels, listing.class_names, **options)


for _name in PUBLISHED:
    _register(_name)
