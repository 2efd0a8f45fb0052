"""An image set, made by a function: --images stripes_images:stripes:count=24."""

import numpy as np

from gfnet_env.images import ArrayImages


def stripes(split: str, count: int = 24):
    """Noise with a vertical or a horizontal bright stripe: two classes.

    Args:
        split: train, val or test; each has its own pictures.
        count: Number of pictures per split.
    """
    rng = np.random.default_rng(["train", "val", "test"].index(split))
    pixels = rng.integers(0, 100, (count, 3, 40, 40), dtype=np.uint8)
    labels = np.arange(count) % 2
    pixels[labels == 0, :, :, 18:22] = 255
    pixels[labels == 1, :, 18:22, :] = 255
    return ArrayImages(pixels, labels, ("stands", "lies"))
