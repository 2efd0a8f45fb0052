"""Image sets by spec; a network is saved with the spec of the images it was trained on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, ImageSet
from gfnet_env.images.dataset import DatasetImages, as_image_set
from gfnet_env.images.picture import Fit
from gfnet_env.paths import user_path
from gfnet_env.registry import Registry
from gfnet_env.settings import AtLeast, AtMost, Settings, checked

DEFAULT_SPEC = "cluttered-digits"
SPLITS = ("train", "val", "test")

IMAGES: Registry[ImageSet] = Registry(
    "image set",
    context=("split", "image_size", "seed", "data_root", "workers", "memory_limit", "crop"),
)

_ARGUMENTS: Mapping[str, Any] = {
    "image_size": Annotated[int, AtLeast(1)],
    "seed": Annotated[int, AtLeast(0), AtMost(2**63 - 1)],
    "workers": Annotated[int, AtLeast(0), AtMost(1000)],
    "memory_limit": Annotated[int, AtLeast(0)],
    "crop": float,
}


def load_images(
    spec: str | ImageSet = DEFAULT_SPEC,
    split: str = "train",
    *,
    image_size: int = 224,
    seed: int = 0,
    data_root: str | Path = "data",
    workers: int = 4,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    fit: Fit | None = None,
    crop: float = 1,
    trusted: bool = True,
) -> ImageSet:
    """Open one split of an image set.

    Args:
        spec: A name in ``IMAGES`` with its parameters, such as ``folder:PATH``, or an image set. A
            ``module:NAME`` of your own is a function that returns an image set or a map-style
            ``torch.utils.data.Dataset``, see ``DatasetImages``. It gets only the arguments below
            that it has parameters for.
        split: ``train``, ``val`` or ``test``; see ``list_published`` for the splits of published
            sets.
        image_size: Side that pictures are brought to, in pixels; scenes and whole pictures keep
            their size.
        seed: Seed of the scenes, and of the splits of a folder without splits.
        data_root: Folder of data sets, in torchvision's layout. Missing sets are downloaded to it;
            only ImageNet's archives must be put there by hand.
        workers: Threads that decode pictures; 0 decodes in the calling thread.
        memory_limit: Maximum bytes of decoded pictures to keep; the others are decoded each time.
        fit: How pictures are brought to a shape if the spec has no ``fit=``, see ``FolderImages``.
            None means ``whole`` for folders and ``crop`` for published sets.
        crop: Share of a picture's side that a centre crop keeps, see ``FolderImages``.
        trusted: Whether the spec may import a module, see ``Registry.build``.

    Raises:
        ValueError: The spec, a parameter or the split is unknown or wrong, or a set is incomplete.
        FileNotFoundError: The folder is missing.
        OSError: A data set could not be downloaded.
    """
    given: dict[str, Any] = {"image_size": image_size, "seed": seed, "crop": crop}
    given |= {"workers": workers, "memory_limit": memory_limit}
    given = {name: checked(name, value, _ARGUMENTS[name]) for name, value in given.items()}
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    says_fit = isinstance(spec, str) and re.search(r"[:,]fit=", spec)
    images: object = IMAGES.build(
        spec,
        trusted=trusted,
        split=split,
        data_root=user_path(data_root),
        **given,
        **({} if fit is None or says_fit else {"fit": fit}),
    )
    if isinstance(images, ImageSet):
        return images
    return DatasetImages(images, workers=given["workers"], memory_limit=given["memory_limit"])


def check_splits(
    sets: Mapping[str, ImageSet], needed: Sequence[str] = SPLITS
) -> dict[str, ImageSet]:
    """Image sets by split, each as ``as_image_set`` gives it.

    Raises:
        ValueError: A needed split is missing or empty, or one is no image set.
    """
    if not isinstance(sets, Mapping):
        raise ValueError(
            f"image sets must be given by split, {{{needed[0]!r}: …}}, not as a "
            f"{type(sets).__name__}"
        )
    missing = [split for split in needed if split not in sets]
    if missing:
        raise ValueError(
            f"the image sets lack the split {missing[0]}; give {', '.join(needed)}, not "
            f"{', '.join(map(str, sets)) or 'none'}"
        )
    checked = {split: as_image_set(images) for split, images in sets.items()}
    for split in needed:
        if len(checked[split]) == 0:
            raise ValueError(f"the split {split} has no images; give some")
    return checked


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Settings):
    """How images are read, for every command."""

    data_root: Path = Path("data")
    """Folder of data sets; missing sets are downloaded to it."""
    workers: Annotated[int, AtLeast(0)] = 4
    """Threads that decode pictures; 0 decodes in the calling thread."""
    memory_gib: Annotated[float, AtLeast(0)] = 1.0
    """Maximum size of a split's decoded pictures in memory, in GiB; the others are decoded each
    time."""

    def load(self, spec: str, split: str, **options: Any) -> ImageSet:
        """Call ``load_images`` with these and other options."""
        return load_images(
            spec,
            split,
            data_root=self.data_root,
            workers=self.workers,
            memory_limit=round(self.memory_gib * 2**30),
            **options,
        )
