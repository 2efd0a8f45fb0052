"""Image sets by name: one spec says which pictures, and is saved with what was trained on them."""

import re
from pathlib import Path
from typing import TypedDict

from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, ImageSet
from gfnet_env.images.dataset import DatasetImages
from gfnet_env.images.picture import Fit
from gfnet_env.registry import Registry

DEFAULT_SPEC = "cluttered-digits"
SPLITS = ("train", "val", "test")

IMAGES: Registry[ImageSet] = Registry("image set")


class Opening(TypedDict):
    """What ``load_images`` tells every image set besides the parameters of its spec."""

    split: str
    image_size: int
    seed: int
    data_root: Path
    workers: int
    memory_limit: int
    crop: float


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
        spec: A name in ``IMAGES`` with its parameters, ``folder:PATH`` for one, or an image set. A
            ``module:NAME`` of one's own is a function that returns an image set or a map-style
            ``torch.utils.data.Dataset`` (see ``DatasetImages``). It is given those of the arguments
            below that it has parameters for.
        split: ``train``, ``val`` or ``test``; see ``list_published`` for those of published sets.
        image_size: Side that pictures are brought to, in pixels; scenes and whole pictures keep
            theirs.
        seed: Seed of the scenes, and of the splits of a folder that has none.
        data_root: Folder that holds downloaded data sets, laid out as torchvision does it, or that
            they are downloaded to. ImageNet's archives have to be put there by hand.
        workers: Threads that decode pictures; with 0 the thread that reads decodes.
        memory_limit: Bytes that decoded pictures may take; what does not fit is decoded each time.
        fit: What becomes of a picture's shape where the spec has no ``fit=``, see ``FolderImages``;
            None is ``whole`` for folders and ``crop`` for published sets.
        crop: Share of a picture's side that a centre crop keeps, see ``FolderImages``.
        trusted: Whether the spec may import a module; one that was read from a file may not.

    Raises:
        ValueError: Spec, parameter or split are unknown or wrong, or a set is incomplete.
        FileNotFoundError: The folder is missing.
        OSError: A data set could not be downloaded.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    context = Opening(
        split=split,
        image_size=image_size,
        seed=seed,
        data_root=Path(data_root).expanduser(),
        workers=workers,
        memory_limit=memory_limit,
        crop=crop,
    )
    says_fit = isinstance(spec, str) and re.search(r"[:,]fit=", spec)
    fits = {} if fit is None or says_fit else {"fit": fit}
    images: object = IMAGES.build(spec, trusted=trusted, **context, **fits)
    if isinstance(images, ImageSet):
        return images
    return DatasetImages(images, workers=workers, memory_limit=memory_limit)
