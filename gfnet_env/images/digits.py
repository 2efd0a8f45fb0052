"""The handwritten digits that scenes are composed of."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfnet_env.images.download import ensure_downloaded

# The splits of digits are part of the data sets; no user's seed changes them.
_SPLIT_SEED = 0

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def scanned_digits(split: str, _data_root: Path) -> tuple[Pixels, Labels]:
    """scikit-learn's 1,797 scanned digits (8×8, 16 grey levels): 60% train, 20% val, 20% test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    first, second = int(0.6 * len(labels)), int(0.8 * len(labels))
    chosen = np.split(order, [first, second])[("train", "val", "test").index(split)]
    grey = (pixels[chosen].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    return grey, labels[chosen].astype(np.int64)


def mnist_digits(split: str, data_root: Path) -> tuple[Pixels, Labels]:
    """MNIST: 54,000 training digits (train), the other 6,000 (val), or the 10,000 test digits.

    Raises:
        OSError: The digits are missing and could not be downloaded.
        ValueError: They are incomplete.
    """
    from torchvision.datasets import MNIST

    ensure_downloaded("MNIST", data_root, "MNIST", lambda target: MNIST(target, download=True))
    try:
        mnist = MNIST(data_root, train=split != "test")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{data_root / 'MNIST'} is incomplete ({error}); delete it to have it downloaded again "
            "or give another folder with --data-root"
        ) from error
    pixels, labels = mnist.data.numpy(), mnist.targets.numpy().astype(np.int64)
    if split == "test":
        return pixels, labels
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    first = int(0.9 * len(labels))
    chosen = order[:first] if split == "train" else order[first:]
    return pixels[chosen], labels[chosen]
