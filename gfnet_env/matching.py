"""Check whether models and images fit together."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gfnet_env.images import (
    SPLITS,
    Fit,
    FolderImages,
    ImageSet,
    ReadingOptions,
    check_splits,
    folder_split_by_seed,
)
from gfnet_env.models.base import Model, glance_view
from gfnet_env.models.saved import SavedConfig
from gfnet_env.models.trained_on import TrainingData
from gfnet_env.settings import AtLeast, Flat, Settings


def check_fit(model: Model, images: ImageSet) -> None:
    """Check that a model can look at some images and knows their classes.

    If each picture has its own size, only the first one is measured now.

    Raises:
        ValueError: There are no images, the classes differ or have another order, or the images
            are too small.
    """
    if len(images) == 0:
        raise ValueError("the set has no images; give some")
    check_classes(model, images)
    for view in (model.view, glance_view(model)):
        images.check_sizes([0], view)


def check_classes(model: Model | SavedConfig, images: ImageSet) -> None:
    """Check that a model knows the classes of some images.

    Raises:
        ValueError: The classes differ or have another order.
    """
    known, given = model.class_names, images.class_names
    if known is not None and given is not None and known != given:
        raise ValueError(
            f"the network knows the {len(known)} classes {_listed(known)}, the images have the "
            f"{len(given)} classes {_listed(given)}; train a network on these images"
        )
    if images.num_classes > model.num_classes or (given and len(given) != model.num_classes):
        raise ValueError(
            f"the network knows {model.num_classes} classes, the images have "
            f"{images.num_classes}; train a network on these images"
        )


def check_split(trained_on: TrainingData, spec: str, seed: int) -> None:
    """Check that a model was not trained on images that ``seed`` holds out of a folder.

    Raises:
        ValueError: The model was trained on another split of the same folder.
    """
    folder, known = folder_split_by_seed(spec), trained_on.image_seed
    is_same = folder == folder_split_by_seed(trained_on.images or "")
    if folder is not None and is_same and seed != known:
        raise ValueError(
            f"a network was trained on the split of {folder} by image_seed={known}, so on images "
            f"that image_seed={seed} holds out: give the same image_seed"
        )


def other_images(trained_on: TrainingData, spec: str) -> str | None:
    """What a model was trained on, if that is another image set than the spec's; else None.

    Parameters of the set may differ: harder scenes are the same set.
    """
    known = trained_on.images
    differs = known is not None and known.partition(":")[0] != spec.partition(":")[0]
    return known if differs else None


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Settings):
    """The images of a command; by default the images that its model was trained on."""

    images: str | None = None
    """Image set; by default the one that the network was trained on."""
    image_size: Annotated[int | None, AtLeast(1)] = None
    """Side that pictures are brought to, in pixels; by default as in the network's training."""
    image_seed: Annotated[int | None, AtLeast(0)] = None
    """Seed of the scenes, and of the splits of a folder without splits; by default as in the
    network's training."""
    fit: Fit | None = None
    """How pictures are brought to a shape, if the image set does not say; by default as in the
    network's training."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)

    def chosen(self, model: Model) -> tuple[str, int]:
        """The spec and the seed of the images.

        Raises:
            ValueError: The model was trained on images that have no spec.
        """
        spec = self.images or model.trained_on.images
        if spec is None:
            raise ValueError(
                "the network does not say which images it was trained on; pass the images"
            )
        return spec, model.trained_on.image_seed if self.image_seed is None else self.image_seed

    def open(self, model: Model, split: str) -> ImageSet:
        """Open a split, ``train``, ``val`` or ``test``; warn if the model was trained on others.

        Raises:
            FileNotFoundError: A folder is missing.
            ValueError: The model was trained on images that have no spec, or on another split of
                them, or the spec is wrong.
        """
        trained_on = model.trained_on
        spec, seed = self.chosen(model)
        check_split(trained_on, spec, seed)
        images = self.reading.load(
            spec,
            split,
            image_size=self.image_size or trained_on.image_size or 224,
            seed=seed,
            fit=self.fit or trained_on.fit,
            crop=trained_on.crop,
            # A spec from a model's file must not import anything.
            trusted=self.images is not None,
        )
        known = other_images(trained_on, spec)
        # A folder may hold the very images that the network was trained on.
        if known is not None and not spec.startswith("folder:"):
            warnings.warn(f"the network was trained on {known}, not on {spec}", stacklevel=2)
        return images

    def open_splits(
        self,
        model: Model,
        given: Mapping[str, ImageSet] | None = None,
        names: Sequence[str] = SPLITS,
    ) -> dict[str, ImageSet]:
        """The splits that are given, or else those that ``open`` opens; raises like both.

        Raises:
            ValueError: See ``check_splits``.
        """
        if given is None:
            given = {name: self.open(model, name) for name in names}
        return check_splits(given, names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def open_pictures(
    files: Sequence[Path], model: Model, image_size: int | None = None
) -> FolderImages:
    """Picture files as a set without known classes.

    Args:
        files: The files.
        model: Pictures are brought to the size of those that it was trained on.
        image_size: Another size, or 0 to leave them as they are.

    Raises:
        ValueError: The model sees whole pictures, but a size is given.
    """
    data = model.trained_on
    if image_size and data.fit == "whole":
        raise ValueError("this network sees whole pictures as they are; leave out image_size")
    size = data.image_size if image_size is None else image_size
    labels, names = [0] * len(files), model.class_names or ()
    if not size:
        return FolderImages(files, labels, names)
    return FolderImages(files, labels, names, image_size=size, fit=data.fit, crop=data.crop)
