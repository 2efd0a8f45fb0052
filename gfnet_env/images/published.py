"""Published sets of photographs, in torchvision's folder layout.

torchvision is slow to import and most image sets do without it, so functions import it themselves.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gfnet_env.images.download import ensure_downloaded
from gfnet_env.images.folder import Files, FolderImages, listed, split_on_disk
from gfnet_env.images.picture import Fit
from gfnet_env.images.registry import IMAGES, SPLITS

# The splits of a published set are part of the set; no user's seed changes them.
_SPLIT_SEED = 0
# Share of the training pictures that becomes val if a set has two splits.
_VAL_SHARE = 0.1


class Listing(NamedTuple):
    """Files of pictures, their labels, and the names of all classes."""

    files: Sequence[Path]
    labels: Sequence[int]
    class_names: Sequence[str]


@dataclass(frozen=True)
class _Published:
    """A published set.

    Attributes:
        prepare: Downloads the set into a root folder, unless it is there.
        pictures: Lists one of the set's own splits.
        splits: The set's own names for train, val and test; if train and val have the same name,
            they share that split.
        group: Maps a picture to its group; no group is in two splits. By default, every picture is
            its own group.
    """

    prepare: Callable[[Path], None]
    pictures: Callable[[Path, str], Listing]
    splits: tuple[str, str, str]
    group: Callable[[Path], str] = str


def list_published(name: str, root: Path, split: str) -> Listing:
    """The pictures of one split of a set in ``PUBLISHED``; ``root`` has torchvision's layout.

    A missing set is downloaded. Flowers102 has three splits. The others have two: the split
    published for validation (Imagenette, ImageNet) or testing (Oxford-IIIT Pet, GTSRB) is ``test``,
    and a fixed tenth of the training pictures of each class is ``val``. All 30 pictures of one sign
    of GTSRB are in the same split.

    Raises:
        OSError: The set is missing and could not be downloaded.
        ValueError: The set is incomplete, or a split has a class that ``train`` lacks.
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
    """``train`` or ``val`` of a split that is both."""
    by_class: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (file, label) in enumerate(zip(listing.files, listing.labels, strict=True)):
        by_class[label][group(file)].append(row)
    rows: list[int] = []
    for label, groups in sorted(by_class.items()):
        if len(groups) == 1:
            raise ValueError(
                f"the class {listing.class_names[label]!r} has only {next(iter(groups))}, too "
                "little to hold some of it out; the set is incomplete: delete it and download it "
                "again"
            )
        order = np.random.default_rng((_SPLIT_SEED, label)).permutation(len(groups))
        held_out = max(1, round(_VAL_SHARE * len(groups)))
        chosen = order[:held_out] if split == "val" else order[held_out:]
        members = list(groups.values())
        rows += [row for number in sorted(chosen) for row in members[number]]
    files, labels, class_names = listing
    return Listing([files[row] for row in rows], [labels[row] for row in rows], class_names)


def _checked(files: Sequence[str | Path], labels: Sequence[int], names: Sequence[str]) -> Listing:
    """The listing of a set; raises ``FileNotFoundError`` if a file is missing."""
    paths = [Path(file) for file in files]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} pictures are missing, {missing[0]} for one"
        )
    return Listing(paths, labels, names)


def _tree(root: Path, split: str, names: dict[str, tuple[str, ...]]) -> Listing:
    """List a set whose folders are named by the classes' WordNet numbers."""
    by_class = split_on_disk(root, split)
    files, labels = listed(by_class)
    return Listing(Files(files), labels.tolist(), [names[wnid][0] for wnid in by_class])


def _imagenette(root: Path, split: str) -> Listing:
    from torchvision import datasets

    train = datasets.Imagenette(root, split="train")
    names = dict(zip(train.wnids, train.classes, strict=True))
    return _tree(root / "imagenette2", split, names)


# torchvision keeps the files of the next three sets only in private attributes.
def _flowers102(root: Path, split: str) -> Listing:
    from torchvision import datasets

    flowers = datasets.Flowers102(root, split=split)
    return _checked(flowers._image_files, flowers._labels, flowers.classes)


def _oxford_iiit_pet(root: Path, split: str) -> Listing:
    from torchvision import datasets

    names = datasets.OxfordIIITPet(root, split="trainval").classes
    pets = datasets.OxfordIIITPet(root, split=split)
    return _checked(pets._images, pets._labels, names)


def _gtsrb(root: Path, split: str) -> Listing:
    from torchvision import datasets

    names = datasets.folder.find_classes(root / "gtsrb" / "GTSRB" / "Training")[0]
    files, labels = zip(*datasets.GTSRB(root, split=split)._samples, strict=True)
    return _checked(files, labels, names)


def _sign(file: Path) -> str:
    """Which sign a training picture of GTSRB shows: ``CLASS/SIGN_PICTURE.ppm``."""
    return file.stem.partition("_")[0]


def _imagenet(root: Path, split: str) -> Listing:
    from torchvision.datasets import imagenet

    return _tree(root, split, imagenet.load_meta_file(root)[0])


def _download(folder: str, name: str, *splits: str) -> Callable[[Path], None]:
    """The function that downloads a data set of torchvision."""

    def download(root: Path) -> None:
        from torchvision import datasets

        dataset: Any = getattr(datasets, name)
        for split in splits:
            dataset(root, split=split, download=True)

    return lambda root: ensure_downloaded(name, root, folder, download)


def _unpack_imagenet(root: Path) -> None:
    """Unpack the archives, which must be downloaded by hand."""
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


_FLOWERS = _download("flowers-102", "Flowers102", "train")
_PETS = _download("oxford-iiit-pet", "OxfordIIITPet", "trainval")
_SIGNS = _download("gtsrb", "GTSRB", "train", "test")
_NETTE = _download("imagenette2", "Imagenette", "train")

PUBLISHED = {
    "imagenette": _Published(_NETTE, _imagenette, ("train", "train", "val")),
    "flowers102": _Published(_FLOWERS, _flowers102, ("train", "val", "test")),
    "oxford-iiit-pet": _Published(_PETS, _oxford_iiit_pet, ("trainval", "trainval", "test")),
    "gtsrb": _Published(_SIGNS, _gtsrb, ("train", "train", "test"), _sign),
    "imagenet": _Published(_unpack_imagenet, _imagenet, ("train", "train", "val")),
}


def _register(name: str) -> None:
    @IMAGES.register(name)
    def open_published(
        fit: Fit = "crop",
        *,
        split: str,
        data_root: Path,
        image_size: int,
        crop: float,
        workers: int,
        memory_limit: int,
    ) -> FolderImages:
        """A published set in torchvision's layout."""
        return FolderImages(
            *list_published(name, data_root, split),
            image_size=image_size,
            fit=fit,
            crop=crop,
            workers=workers,
            memory_limit=memory_limit,
        )


for _name in PUBLISHED:
    _register(_name)
