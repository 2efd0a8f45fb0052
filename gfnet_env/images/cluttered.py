"""Cluttered scenes: a digit at a random place among fragments of other digits.

The scenes follow the cluttered translated MNIST of Mnih et al., "Recurrent Models of Visual
Attention" (NIPS 2014, section 4.1): small enough to train on anywhere, and yet a thumbnail does not
show what the digit is while a patch at the right place does.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.digest import digest
from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, Numbers
from gfnet_env.images.download import ensure_downloaded
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.registry import IMAGES, SPLITS, Opening
from gfnet_env.randomness import uniform

# The splits of the scanned digits are part of the data sets, so no seed of a user's changes them.
_DIGIT_SPLIT_SEED = 0

_Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Clutter:
    """How scenes are composed; lengths in pixels.

    Attributes:
        canvas: Side of the scene.
        digit: Side of the digit, enlarged or reduced to it.
        pieces: How many fragments of other digits there are.
        piece: Side of a fragment.
    """

    canvas: int
    digit: int
    pieces: int
    piece: int

    def __post_init__(self) -> None:
        if not 1 <= self.digit <= self.canvas:
            raise ValueError(f"digit must be in 1..canvas ({self.canvas}), not {self.digit}")
        if not 1 <= self.piece <= self.digit:
            raise ValueError(f"piece must be in 1..digit ({self.digit}), not {self.piece}")
        if self.pieces < 0:
            raise ValueError(f"pieces must be at least 0, not {self.pieces}")


class ClutteredScenes(PictureImages):
    """Scenes made when they are asked for; the same (seed, split, index) is always the same one.

    Args:
        digits: Scanned digits to draw from, (D, h, w) uint8, bright on dark.
        labels: Their classes, (D,).
        clutter: How scenes are composed.
        scenes: How many scenes the set has.
        seed: With ``split`` and an image's index it fixes the image.
        split: Number of the split, so that splits do not share their random numbers.
        memory_limit: Bytes that rendered scenes may take.
    """

    sources: npt.NDArray[np.int64]

    def __init__(
        self,
        digits: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        clutter: Clutter,
        *,
        scenes: int,
        seed: int,
        split: int,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        super().__init__(memory_limit=memory_limit)
        if scenes < 1:
            raise ValueError(f"a set needs at least one scene, not {scenes}")
        self.clutter = clutter
        self.fixed_size = (clutter.canvas, clutter.canvas)
        self._digits = _resize(digits, clutter.digit)
        self._keys = (seed, split)
        self.class_names = tuple(str(name) for name in range(10))

        index = np.arange(scenes)
        self.sources = self._integers(index, 0, len(digits))
        offsets = clutter.canvas - clutter.digit + 1
        self._top, self._left = (self._integers(index, draw, offsets) for draw in (1, 2))
        self.labels = torch.from_numpy(labels[self.sources])
        corner = np.stack([self._top, self._left], axis=1)
        box = np.concatenate([corner, corner + clutter.digit], axis=1)
        self.boxes = torch.from_numpy(box.astype(np.float32))

    def _integers(self, index: Numbers, draw: int | Numbers, high: int | Numbers) -> Numbers:
        """Draws number ``draw`` of scenes: integers in [0, high); the arguments broadcast."""
        return (uniform(*self._keys, index, draw) * high).astype(np.int64)

    def digest(self) -> str:
        """The digest of what the scenes are made of; none is made for it."""
        origin = [dataclasses.asdict(self.clutter), self._keys, len(self)]
        return digest("scenes", origin, self._digits)

    def _read(self, indices: Numbers) -> Tensor:
        """Render scenes, (B, 1, H, W)."""
        side = self.clutter.canvas
        scenes = np.zeros((len(indices), side, side), dtype=np.uint8)
        _draw(scenes, self._digits[self.sources[indices]], self._top[indices], self._left[indices])
        for piece, top, left in self._pieces(indices):
            _draw(scenes, piece, top, left)
        return torch.from_numpy(scenes).unsqueeze(1)

    def _pieces(self, indices: Numbers) -> Iterator[tuple[npt.NDArray[np.uint8], Numbers, Numbers]]:
        """Fragments of digits other than the scenes' own, (B, piece, piece), and their corners."""
        side, piece = self.clutter.canvas, self.clutter.piece
        others, crops = len(self._digits) - 1, self.clutter.digit - piece + 1
        highs = np.array([others, crops, crops, side - piece + 1, side - piece + 1])
        numbers = 3 + np.arange(5 * self.clutter.pieces).reshape(-1, 1, 5)
        draws = self._integers(indices[:, None], numbers, highs)
        for source, crop_top, crop_left, top, left in draws.transpose(0, 2, 1):
            source += source >= self.sources[indices]
            rows, columns = _window(crop_top, crop_left, piece)
            yield self._digits[source[:, None, None], rows, columns], top, left


def _window(
    top: npt.NDArray[np.int64], left: npt.NDArray[np.int64], side: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row (B, side, 1) and column (B, 1, side) indices of squares with those corners."""
    span = np.arange(side)
    return top[:, None, None] + span[:, None], left[:, None, None] + span[None, :]


def _draw(
    scenes: npt.NDArray[np.uint8],
    pictures: npt.NDArray[np.uint8],
    top: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
) -> None:
    """Draw one square picture into each scene; where two overlap, the brighter pixel stays."""
    rows, columns = _window(top, left, pictures.shape[-1])
    scene = np.arange(len(scenes))[:, None, None]
    scenes[scene, rows, columns] = np.maximum(scenes[scene, rows, columns], pictures)


def _resize(digits: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    if digits.shape[1:] == (side, side):
        return digits
    pixels = torch.from_numpy(digits).unsqueeze(1).float()
    resized = functional.interpolate(pixels, (side, side), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).squeeze(1).numpy()


def _scanned_digits(split: str, _data_root: Path) -> _Digits:
    """scikit-learn's 1,797 scanned digits (8×8, 16 grey levels): 60% train, 20% val, 20% test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_DIGIT_SPLIT_SEED).permutation(len(labels))
    first, second = int(0.6 * len(labels)), int(0.8 * len(labels))
    chosen = np.split(order, [first, second])[SPLITS.index(split)]
    grey = (pixels[chosen].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    return grey, labels[chosen].astype(np.int64)


def _mnist_digits(split: str, data_root: Path) -> _Digits:
    """MNIST: 54,000 of the training digits, the other 6,000 (val) or the 10,000 test digits."""
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
    order = np.random.default_rng(_DIGIT_SPLIT_SEED).permutation(len(labels))
    first = int(0.9 * len(labels))
    chosen = order[:first] if split == "train" else order[first:]
    return pixels[chosen], labels[chosen]


def _register(
    name: str,
    digits: Callable[[str, Path], _Digits],
    default: Clutter,
    counts: Sequence[int],
) -> None:
    """Register scenes; ``counts`` are those of train, val and test."""

    @IMAGES.register(name)
    def open_scenes(
        canvas: int = default.canvas,
        digit: int = default.digit,
        pieces: int = default.pieces,
        piece: int = default.piece,
        scenes: int | None = None,
        train: int | None = None,
        **opening: Unpack[Opening],
    ) -> ClutteredScenes:
        split = SPLITS.index(opening["split"])
        count = train if split == 0 and train is not None else scenes
        return ClutteredScenes(
            *digits(opening["split"], opening["data_root"]),
            Clutter(canvas=canvas, digit=digit, pieces=pieces, piece=piece),
            scenes=counts[split] if count is None else count,
            seed=opening["seed"],
            split=split,
            memory_limit=opening["memory_limit"],
        )


_register(
    "cluttered-digits",
    _scanned_digits,
    Clutter(canvas=128, digit=20, pieces=10, piece=10),
    (20_000, 2_000, 2_000),
)
_MNIST = (54_000, 6_000, 10_000)
_register(
    "cluttered-mnist", _mnist_digits, Clutter(canvas=128, digit=28, pieces=8, piece=12), _MNIST
)
# The two settings of "Recurrent Models of Visual Attention" (NIPS 2014 and arXiv v1).
_register(
    "cluttered-mnist-60", _mnist_digits, Clutter(canvas=60, digit=28, pieces=4, piece=8), _MNIST
)
_register(
    "cluttered-mnist-100", _mnist_digits, Clutter(canvas=100, digit=28, pieces=8, piece=8), _MNIST
)
