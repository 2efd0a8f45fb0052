"""Networks and images that go together."""

from collections.abc import Sequence
from dataclasses import dataclass

from gfnet_env.data import DEFAULT_SPEC, CentreCrops, ImageSet, ReadingOptions
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

    def open(self, network: GlanceFocusNetwork, split: str) -> ImageSet:
        """One split of them.

        Args:
            network: Its metadata name the images it was trained on, and the share of a picture's
                shorter side that its pictures are centre crops of, if that is not the whole.
            split: ``train``, ``val`` or ``test``.

        Raises:
            FileNotFoundError: A folder is missing.
            ValueError: The network was trained on images that have no spec, or the spec is wrong.
        """
        trained_on = network.config.metadata
        spec = self.images or trained_on.get("images", DEFAULT_SPEC)
        if spec is None:
            raise ValueError("this network was trained on images given in memory; pass the images")
        seed = self.image_seed
        size = self.image_size or trained_on.get("image_size", 224)
        crop = trained_on.get("crop", 1)
        images = self.load(
            spec,
            split,
            image_size=int(size / crop),
            seed=trained_on.get("image_seed", 0) if seed is None else seed,
        )
        return images if crop == 1 else CentreCrops(images, size)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
