"""Cluttered scenes: a digit at a random place among fragments of other digits.

They follow the cluttered translated MNIST of Mnih et al., "Recurrent Models of Visual Attention"
(NIPS 2014, section 4.1). They are small enough to train on anywhere. Yet a thumbnail does not show
which digit it is, while a window at the right place does.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.digest import digest
from gfnet_env.images.base import DEFAULT_MEMORY_LIMIT, Numbers
from gfnet_env.images.digits import Labels, Pixels, mnist_digits, scanned_digits
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.registry import IMAGES, SPLITS
from gfnet_env.randomness import uniform


@dataclass(frozen=True)
class Clutter:
    """How scenes are composed; lengths are in pixels.

    Attributes:
        canvas: Side of the scene.
        digit: Side that the digit is resized to.
        pieces: Number of fragments of other digits.
        piece: Side of a fragment.
    """

    canvas: int
    digit: int
    pieces: int
    piece: int

    def __post_init__(self) -> None:
        if self.canvas > 10_000:
            raise ValueError(f"canvas must be at most 10,000 pixels, not {self.canvas}")
        if self.digit > 256:
            raise ValueError(f"digit must be at most 256 pixels, not {self.digit}")
        if not 1 <= self.digit <= self.canvas:
            raise ValueError(f"digit must be in 1..canvas ({self.canvas}), not {self.digit}")
        if not 1 <= self.piece <= self.digit:
            raise ValueError(f"piece must be in 1..digit ({self.digit}), not {self.piece}")
        # Each takes time to draw.
        if not 0 <= self.pieces <= 10_000:
            raise ValueError(f"pieces must be in 0..10000, not {self.pieces}")


class ClutteredScenes(PictureImages):
    """Scenes, rendered on demand; the same (seed, split, index) always gives the same scene.

    Args:
        digits: Scanned digits to compose scenes of, (D, h, w) uint8, bright on dark.
        labels: Classes of the digits, (D,).
        clutter: How scenes are composed.
        scenes: Number of scenes.
        seed: Seed of the scenes.
        split: Number of the split: splits do not share random numbers.
        memory_limit: Maximum bytes of rendered scenes to keep.
    """

    sources: Numbers

    def __init__(
        self,
        digits: Pixels,
        labels: Labels,
        clutter: Clutter,
        *,
        scenes: int,
        seed: int,
        split: int,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        super().__init__(memory_limit=memory_limit)
        if not 1 <= scenes <= 10_000_000:
            raise ValueError(f"a set must have 1 to 10,000,000 scenes, not {scenes}")
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
        """Random integers in [0, high) of scenes, number ``draw``; the arguments broadcast."""
        return (uniform(*self._keys, index, draw) * high).astype(np.int64)

    def digest(self) -> str:
        """The digest of everything that determines the scenes; renders none of them."""
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

    def _pieces(self, indices: Numbers) -> Iterator[tuple[Pixels, Numbers, Numbers]]:
        """Fragments of other digits than the scenes' own, (B, piece, piece), and their corners."""
        side, piece = self.clutter.canvas, self.clutter.piece
        others, crops = len(self._digits) - 1, self.clutter.digit - piece + 1
        highs = np.array([others, crops, crops, side - piece + 1, side - piece + 1])
        numbers = 3 + np.arange(5 * self.clutter.pieces).reshape(-1, 1, 5)
        draws = self._integers(indices[:, None], numbers, highs)
        for source, crop_top, crop_left, top, left in draws.transpose(0, 2, 1):
            source += source >= self.sources[indices]
            rows, columns = _window(crop_top, crop_left, piece)
            yield self._digits[source[:, None, None], rows, columns], top, left


def _window(top: Numbers, left: Numbers, side: int) -> tuple[Numbers, Numbers]:
    """Row (B, side, 1) and column (B, 1, side) indices of squares with these corners."""
    span = np.arange(side)
    return top[:, None, None] + span[:, None], left[:, None, None] + span[None, :]


def _draw(
    scenes: Pixels,
    pictures: Pixels,
    top: Numbers,
    left: Numbers,
) -> None:
    """Draw one square picture into each scene; the brighter of two overlapping pixels stays."""
    rows, columns = _window(top, left, pictures.shape[-1])
    scene = np.arange(len(scenes))[:, None, None]
    scenes[scene, rows, columns] = np.maximum(scenes[scene, rows, columns], pictures)


def _resize(digits: Pixels, side: int) -> Pixels:
    if digits.shape[1:] == (side, side):
        return digits
    pixels = torch.from_numpy(digits).unsqueeze(1).float()
    resized = functional.interpolate(pixels, (side, side), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).squeeze(1).numpy()


def _register(
    name: str,
    digits: Callable[[str, Path], tuple[Pixels, Labels]],
    counts: tuple[int, int, int],
    default: Clutter,
) -> None:
    """Register scenes; ``counts`` are the numbers of scenes of train, val and test."""

    @IMAGES.register(name)
    def open_scenes(
        canvas: int = default.canvas,
        digit: int = default.digit,
        pieces: int = default.pieces,
        piece: int = default.piece,
        scenes: int | None = None,
        train: int | None = None,
        *,
        split: str,
        seed: int,
        data_root: Path,
        memory_limit: int,
    ) -> ClutteredScenes:
        """One digit among fragments of others, on a square canvas; sizes are in pixels."""
        count = train if split == "train" and train is not None else scenes
        number = SPLITS.index(split)
        return ClutteredScenes(
            *digits(split, data_root),
            Clutter(canvas=canvas, digit=digit, pieces=pieces, piece=piece),
            scenes=counts[number] if count is None else count,
            seed=seed,
            split=number,
            memory_limit=memory_limit,
        )


_MNIST = (54_000, 6_000, 10_000)
# Name, digits, numbers of scenes of each split; canvas, digit, pieces, piece.
for _name, _digits, _counts, _default in (
    ("cluttered-digits", scanned_digits, (20_000, 2_000, 2_000), (128, 20, 10, 10)),
    ("cluttered-mnist", mnist_digits, _MNIST, (128, 28, 8, 12)),
    # The two settings of "Recurrent Models of Visual Attention" (NIPS 2014 and arXiv v1).
    ("cluttered-mnist-60", mnist_digits, _MNIST, (60, 28, 4, 8)),
    ("cluttered-mnist-100", mnist_digits, _MNIST, (100, 28, 8, 8)),
):
    _register(_name, _digits, _counts, Clutter(*_default))
