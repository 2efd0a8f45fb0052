"""Cluttered scenes: a digit at a random place among fragments of other digits.

The scenes follow the cluttered translated MNIST of Mnih et al., "Recurrent Models of Visual
Attention" (NIPS 2014, section 4.1): small enough to train on anywhere, and yet a thumbnail does not
show what the digit is while a patch at the right place does.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.data.images import ImageSet
from gfnet_env.digest import digest
from gfnet_env.randomness import uniform


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


class ClutteredScenes(ImageSet):
    """Scenes made when they are asked for; the same (seed, split, index) is always the same one.

    Args:
        digits: Scanned digits to draw from, (D, h, w) uint8, bright on dark.
        labels: Their classes, (D,).
        clutter: How scenes are composed.
        scenes: How many scenes the set has.
        seed: With ``split`` and an image's index it fixes the image.
        split: Number of the split, so that splits do not share their random numbers.
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
    ) -> None:
        if scenes < 1:
            raise ValueError(f"a set needs at least one scene, not {scenes}")
        self.clutter = clutter
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

    def _integers(
        self, index: npt.NDArray[np.int64], draw: int, high: int
    ) -> npt.NDArray[np.int64]:
        """Draw number ``draw`` of each scene: integers in [0, high), in the shape of ``index``."""
        return (uniform(*self._keys, index, draw) * high).astype(np.int64)

    def digest(self) -> str:
        """The digest of what the scenes are made of; none is made for it."""
        origin = [dataclasses.asdict(self.clutter), self._keys, len(self)]
        return digest("scenes", origin, self._digits)

    def _read(self, indices: npt.NDArray[np.int64]) -> Tensor:
        side = self.clutter.canvas
        scenes = np.zeros((len(indices), side, side), dtype=np.uint8)
        _draw(scenes, self._digits[self.sources[indices]], self._top[indices], self._left[indices])
        for number in range(self.clutter.pieces):
            first_draw = 3 + 5 * number
            piece = self._piece(indices, first_draw)
            places = side - self.clutter.piece + 1
            top, left = (self._integers(indices, first_draw + 3 + axis, places) for axis in (0, 1))
            _draw(scenes, piece, top, left)
        return torch.from_numpy(scenes).unsqueeze(1).expand(-1, 3, -1, -1)

    def _piece(self, indices: npt.NDArray[np.int64], first_draw: int) -> npt.NDArray[np.uint8]:
        """A fragment of a digit other than the scene's own, (B, piece, piece)."""
        others = len(self._digits) - 1
        source = self._integers(indices, first_draw, others)
        source += source >= self.sources[indices]
        crops = self.clutter.digit - self.clutter.piece + 1
        top, left = (self._integers(indices, first_draw + 1 + axis, crops) for axis in (0, 1))
        rows, columns = _window(top, left, self.clutter.piece)
        return self._digits[source[:, None, None], rows, columns]


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
