"""Computing cached features before they are asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from gfnet_env.data import ImageSet
from gfnet_env.features.cached import CachedFeatures
from gfnet_env.features.options import CacheOptions
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.pretrained import packaged_network
from gfnet_env.runs import resolve_device

# Images are taken in few at a time: each has many views.
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class CacheConfig(ImageOptions, CacheOptions):
    """What to compute."""

    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    split: Literal["train", "val", "test"] = "train"
    """Images to compute the features of."""
    batch_size: int = 256
    """Patches that the encoder is given at once."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def __post_init__(self) -> None:
        CacheOptions.__post_init__(self)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")


def cache_features(
    config: CacheConfig,
    *,
    network: GlanceFocusNetwork | None = None,
    images: ImageSet | None = None,
) -> CachedFeatures:
    """Compute all features of a split that the store lacks.

    Each process goes through the images in an order of its own, so that several share the work.
    One that is killed leaves what it has computed; another call computes the rest.

    Args:
        config: What to compute.
        network: What sees, in place of ``config.network``.
        images: The split, in place of ``config.images``.

    Returns:
        The features, complete.

    Raises:
        FileNotFoundError: A folder is missing.
        OSError: The store cannot be written.
        ValueError: A value is wrong, network and images do not fit, the store would be over its
            limit, or it is damaged.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if network is None:
        network = GlanceFocusNetwork.load(config.network) if config.network else packaged_network()
    network.eval().to(resolve_device(config.device))
    images = images or config.open(network, config.split)
    check_fit(network, images)
    features = config.open_cache(network, images, 1)
    if not features.store.is_new:
        console.print(features.summary())
    order = np.random.default_rng().permutation(len(images))
    parts = np.split(order, range(_IMAGES_AT_ONCE, len(order), _IMAGES_AT_ONCE))
    for part in track(parts, "features", console=console):
        features.fill(part, config.batch_size)
    console.print(features.summary())
    return features
