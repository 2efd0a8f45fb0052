"""Networks and images that go together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gfnet_env.data import DEFAULT_SPEC, CentreCrops, ImageSet, load_images
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
class ImageOptions:
    """Which images a command takes; by default those that its network was trained on."""

    images: str | None = None
    """Image set; by default what the network was trained on."""
    image_size: int | None = None
    """Side that pictures of a folder are brought to; by default as in the network's training."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""

    def open(self, network: GlanceFocusNetwork, split: str) -> ImageSet:
        """One split of them, see ``open_images``."""
        return open_images(
            network, self.images, split, image_size=self.image_size, data_root=self.data_root
        )


def open_images(
    network: GlanceFocusNetwork,
    spec: str | None,
    split: str,
    *,
    image_size: int | None = None,
    data_root: str | Path = "data",
) -> ImageSet:
    """One split of an image set; where nothing is said, of what the network was trained on.

    Args:
        network: Its metadata name the images it was trained on, and the share of a picture's
            shorter side that its pictures are centre crops of, if that is not the whole.
        spec: Of another image set, see ``load_images``.
        split: ``train``, ``val`` or ``test``.
        image_size: Side that pictures of a folder are brought to, in pixels.
        data_root: Folder of downloaded data sets.

    Raises:
        ValueError: The network was trained on images that have no spec.
    """
    trained_on = network.config.metadata
    spec = spec or trained_on.get("images", DEFAULT_SPEC)
    if spec is None:
        raise ValueError("this network was trained on images given in memory; pass the images")
    size = image_size or trained_on.get("image_size", 224)
    crop = trained_on.get("crop", 1)
    images = load_images(spec, split, image_size=int(size / crop), data_root=data_root)
    return images if crop == 1 else CentreCrops(images, size)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
