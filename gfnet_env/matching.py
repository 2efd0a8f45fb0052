"""Networks and images that go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfnet_env.data import (
    DEFAULT_SPEC,
    CentreCrops,
    ImageSet,
    ReadingOptions,
    folder_split_by_seed,
)
from gfnet_env.perception import GlanceFocusNetwork, NetworkConfig, StaticConfig


def check_fit(network: GlanceFocusNetwork, images: ImageSet) -> None:
    """Check that a network can look at some images and knows their classes.

    Raises:
        ValueError: The classes are others or in another order, or the images are too small.
    """
    check_classes(network.config, images)
    network.check_images(images[[0]])


def check_classes(network: NetworkConfig | StaticConfig, images: ImageSet) -> None:
    """Check that a network knows the classes of some images.

    Raises:
        ValueError: The classes are others or in another order.
    """
    known, given = network.class_names, images.class_names
    if known is not None and given is not None and known != given:
        raise ValueError(
            f"the network knows the {len(known)} classes {_listed(known)}, the images have the "
            f"{len(given)} classes {_listed(given)}; train a network on these images"
        )
    if images.num_classes > network.num_classes or (given and len(given) != network.num_classes):
        raise ValueError(
            f"the network knows {network.num_classes} classes, the images have "
            f"{images.num_classes}; train a network on these images"
        )


def check_split(trained_on: Mapping[str, Any], spec: str, seed: int) -> None:
    """Check that what a seed holds out of a folder without splits was not trained on with another.

    Args:
        trained_on: Metadata of a network: ``images`` and ``image_seed``.
        spec: The images.
        seed: Of their splits.

    Raises:
        ValueError: The network was trained on another split of the same folder.
    """
    folder, known = folder_split_by_seed(spec), trained_on.get("image_seed", seed)
    of_network = folder_split_by_seed(trained_on.get("images") or "")
    if folder is not None and folder == of_network and seed != known:
        raise ValueError(
            f"a network was trained on the split of {folder} that image_seed={known} makes, so on "
            f"images that image_seed={seed} holds out: give it the same"
        )


@dataclass(frozen=True, kw_only=True)
class ImageOptions(ReadingOptions):
    """Which images a command takes; by default those that its network was trained on."""

    images: str | None = None
    """Image set; by default what the network was trained on."""
    image_size: int | None = None
    """Side that pictures are brought to; by default as in the network's training."""
    image_seed: int | None = None
    """Seed of the scenes, and of the splits of a folder that has none; by default as in the
    network's training."""

    def chosen(self, network: GlanceFocusNetwork) -> tuple[str, int]:
        """Their spec and their seed.

        Args:
            network: Its metadata name the images it was trained on.

        Raises:
            ValueError: The network was trained on images that have no spec.
        """
        trained_on = network.config.metadata
        spec = self.images or trained_on.get("images", DEFAULT_SPEC)
        if spec is None:
            raise ValueError("this network was trained on images given in memory; pass the images")
        seed = self.image_seed
        return spec, trained_on.get("image_seed", 0) if seed is None else seed

    def open(self, network: GlanceFocusNetwork, split: str) -> ImageSet:
        """One split of them.

        Args:
            network: Its metadata name the images it was trained on, and the share of a picture's
                shorter side that its pictures are centre crops of, if that is not the whole.
            split: ``train``, ``val`` or ``test``.

        Raises:
            FileNotFoundError: A folder is missing.
            ValueError: The network was trained on images that have no spec, or on another split of
                them, or the spec is wrong.
        """
        trained_on = network.config.metadata
        spec, seed = self.chosen(network)
        check_split(trained_on, spec, seed)
        # Of images that were not square it is noted as None.
        size = self.image_size or trained_on.get("image_size") or 224
        crop = trained_on.get("crop", 1)
        images = self.load(
            spec,
            split,
            image_size=int(size / crop),
            seed=seed,
        )
        return images if crop == 1 else CentreCrops(images, size)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
