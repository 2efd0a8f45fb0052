"""Compute cached features in advance."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from gfnet_env.console import PlainConsole, track
from gfnet_env.env.vector import open_model
from gfnet_env.features.cached import CachedFeatures
from gfnet_env.features.options import CacheOptions
from gfnet_env.images.base import ImageSet
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models.base import Model
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Flat, Settings

# Few, since each image has many views.
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Settings):
    """Which features to compute."""

    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    cache: Flat[CacheOptions] = field(default_factory=CacheOptions)
    split: Literal["train", "val", "test"] = "train"
    """Images whose features to compute."""
    batch_size: Annotated[int, AtLeast(1)] = 256
    """Views in a batch of an encoder."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def cache_features(
    config: CacheConfig, *, model: Model | None = None, images: ImageSet | None = None
) -> CachedFeatures:
    """Compute all features of a split that the store lacks.

    Several processes can share the work, since each goes through the images in its own order. If
    one is killed, the features that it has computed stay in the store.

    Args:
        config: What to compute.
        model: Model to use instead of ``config.network``; it stays on its device.
        images: Split to use instead of ``config.images``.

    Returns:
        The complete features.

    Raises:
        FileNotFoundError: A folder is missing.
        OSError: The store cannot be written.
        ValueError: Model and images do not fit, or the store is damaged or over its limit.
    """
    console = PlainConsole(soft_wrap=True, highlight=False)
    if model is None:
        model = open_model(config.network).eval().to(resolve_device(config.device))
    if images is None:
        images = config.images.open(model, config.split)
    check_fit(model, images)
    features = config.cache.open_cache(model, images)
    if not features.store.is_new:
        console.print(features.summary())
    order = np.random.default_rng().permutation(len(images))
    parts = np.split(order, range(_IMAGES_AT_ONCE, len(order), _IMAGES_AT_ONCE))
    for part in track(parts, "features"):
        features.fill(part, config.batch_size)
    console.print(features.summary())
    return features
