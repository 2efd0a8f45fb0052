"""Megapixel MNIST: five digits on a large black canvas, among many meaningless strokes.

It follows Katharopoulos and Fleuret, "Processing Megapixel Images with Deep Attention-Sampling
Models" (ICML 2019), with the tasks of Bergner et al., "Iterative Patch Selection" (ICLR 2023). The
digits are 0.2% of a picture of 1500×1500. No picture is ever stored; the requested parts are
rendered.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gfnet_env.digest import digest
from gfnet_env.images.base import ImageSet, Numbers
from gfnet_env.images.digits import Labels, Pixels, mnist_digits
from gfnet_env.images.registry import IMAGES, SPLITS
from gfnet_env.images.resize import Shape, resize
from gfnet_env.looks import ViewConfig
from gfnet_env.randomness import uniform

Task = Literal["majority", "max", "top"]
Order = Literal["noise-first", "digits-first"]

# Side of digits and strokes, in pixels.
_PIECE = 28
_DIGITS, _SAME = 5, 3
# Most bytes of parts of pictures that are rendered at once.
_RENDERED_BYTES = 2**25

# Purposes of random numbers, as keys, so that none is drawn twice.
_LABEL, _DIGIT, _PLACE, _PATTERN, _NOISE, _NOISE_PLACE = range(6)


class MegapixelMNIST(ImageSet):
    """Pictures of five digits, three of them equal, on noise.

    The same (seed, split, index) always gives the same picture, regardless of the number of
    pictures.

    Args:
        digits: Digits to compose pictures of, (D, 28, 28) uint8, bright on dark.
        labels: Classes of the digits, (D,).
        side: Side of the canvas, in pixels; at least 84.
        images: Number of pictures.
        noise: Number of strokes on each picture, and of stroke patterns.
        task: What the class of a picture is: the digit that occurs three times (``majority``), the
            largest digit (``max``), or the digit nearest to the top edge (``top``).
        order: What is pasted first. Later pastes cover it, also with their black pixels.
        seed: Seed of the pictures.
        split: Number of the split: splits do not share random numbers.

    Raises:
        ValueError: A number is out of range, or a name is unknown.
    """

    def __init__(
        self,
        digits: Pixels,
        labels: Labels,
        *,
        side: int = 1500,
        images: int,
        noise: int = 50,
        task: Task = "majority",
        order: Order = "noise-first",
        seed: int = 0,
        split: int = 0,
    ) -> None:
        for name, value, least, most in (
            ("side", side, 3 * _PIECE, 100_000),
            ("images", images, 1, 10_000_000),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be in {least}..{most}, not {value}")
        if not 0 <= noise <= 10_000:
            raise ValueError(f"noise must be in 0..10000, not {noise}")
        for name, chosen, known in (("task", task, Task), ("order", order, Order)):
            if chosen not in get_args(known):
                raise ValueError(f"unknown {name} {chosen!r}; known: {', '.join(get_args(known))}")
        self.fixed_size, self._side = (side, side), side
        self.class_names = tuple(str(name) for name in range(10))
        self._keys, self._noise, self._order = (seed, split), noise, order
        index = np.arange(images)
        sources = self._draw_digits(index, labels)
        self.digit_corners = self._draw_corners(index)
        classes = labels[sources]
        top = self.digit_corners[:, :, 0].argmin(axis=1)
        of_task = {
            "majority": classes[:, 0],
            "max": classes.max(axis=1),
            "top": classes[index, top],
        }
        self.labels = torch.from_numpy(of_task[task])
        self._sources, self._digits = sources, digits
        self._strokes = self._draw_strokes()
        self._stroke_corners, self._stroke_patterns = self._place_strokes(index)
        self._origin = digest("megapixel-mnist", self._keys, side, noise, task, order, digits)

    def digest(self) -> str:
        """The digest of everything that determines the pictures; renders none of them."""
        return digest(self._origin, len(self))

    def _uniform(self, *keys: int | Numbers) -> np.ndarray:
        return uniform(*self._keys, *keys)

    def _draw_digits(self, index: Numbers, labels: Labels) -> Numbers:
        """The digits of each picture, (N, 5): three of one class, then two of other classes."""
        by_class = [np.flatnonzero(labels == name) for name in range(10)]
        others = [np.flatnonzero(labels != name) for name in range(10)]
        classes = (self._uniform(_LABEL, index) * 10).astype(np.int64)
        drawn = self._uniform(_DIGIT, index[:, None], np.arange(_DIGITS))
        columns = []
        for number in range(_DIGITS):
            pools = by_class if number < _SAME else others
            sizes = np.array([len(pool) for pool in pools])[classes]
            places = (drawn[:, number] * sizes).astype(np.int64)
            columns.append(
                [pools[name][place] for name, place in zip(classes, places, strict=True)]
            )
        return np.array(columns).T

    def _draw_corners(self, index: Numbers) -> Numbers:
        """The top left pixel of each digit, (N, 5, 2), redrawn while two digits overlap."""
        corners = np.empty((len(index), _DIGITS, 2), dtype=np.int64)
        for number in range(_DIGITS):
            wrong, attempt = index, 0
            while len(wrong):
                keys = (_PLACE, wrong[:, None], number, attempt, np.arange(2))
                room = self._side - _PIECE
                corners[wrong, number] = (self._uniform(*keys) * room).round().astype(np.int64)
                apart = np.abs(corners[wrong, :number] - corners[wrong, number, None])
                overlap = (apart < _PIECE).all(axis=2).any(axis=1)
                wrong, attempt = wrong[overlap], attempt + 1
        return corners

    def _place_strokes(self, index: Numbers) -> tuple[Numbers, Numbers]:
        """The top left pixel of each stroke, (N, noise, 2), and its pattern, (N, noise)."""
        number = np.arange(self._noise)[:, None]
        drawn = self._uniform(_NOISE_PLACE, index[:, None, None], number, np.arange(3))
        corners = (drawn[..., :2] * (self._side - 2 * _PIECE)).astype(np.int64) + _PIECE
        return corners, (drawn[..., 2] * self._noise).astype(np.int64)

    def _draw_strokes(self) -> Pixels:
        """The patterns of the split: two lines each, of slopes tan(U·π/2.5), in noisy grey."""
        number = np.arange(self._noise)
        draws = self._uniform(_PATTERN, number[:, None], np.arange(4))
        lines = np.zeros((self._noise, _PIECE, _PIECE), dtype=bool)
        for line, slope in zip(lines, np.tan(draws[:, 0] * np.pi / 2.5), strict=True):
            last = _PIECE - 0.51
            across = np.linspace(0, min(last, last / max(slope, 1e-9)), 2 * _PIECE)
            line[across.round().astype(int), (slope * across).round().astype(int)] = True
        other = lines[draws[:, 1].argsort()]
        for axis, flipped in ((2, draws[:, 2] < 0.33), (1, draws[:, 3] < 0.33)):
            other[flipped] = np.flip(other[flipped], axis)
        pixels = np.arange(_PIECE**2).reshape(1, _PIECE, _PIECE)
        grey = 0.8 + 0.2 * self._uniform(_NOISE, number[:, None, None], pixels)
        return (255 * grey * (lines | other)).astype(np.uint8)

    def _pieces(self, index: int) -> tuple[Numbers, Pixels]:
        """All pieces of a picture in the order they are pasted: corners (M, 2), and pixels."""
        parts = [
            (self._stroke_corners[index], self._strokes[self._stroke_patterns[index]]),
            (self.digit_corners[index], self._digits[self._sources[index]]),
        ]
        if self._order == "digits-first":
            parts.reverse()
        corners, pixels = zip(*parts, strict=True)
        return np.concatenate(corners), np.concatenate(pixels)

    def _regions(self, indices: Numbers, boxes: Tensor, shape: Shape, view: ViewConfig) -> Tensor:
        corners = boxes.cpu().numpy()
        parts, first = [torch.empty(0, 1, *shape, dtype=torch.uint8)], 0
        while first < len(indices):
            height, width = corners[first, 2:] - corners[first, :2]
            most = max(1, _RENDERED_BYTES // (height * width))
            alike = (corners[first:, 2:] - corners[first:, :2] == (height, width)).all(axis=1)
            count = min(most, int(np.argmin(np.append(alike, False))))
            canvas = np.zeros((count, height, width), dtype=np.uint8)
            for row in range(count):
                self._render(int(indices[first + row]), corners[first + row, :2], canvas[row])
            parts.append(resize(torch.from_numpy(canvas)[:, None], shape, view))
            first += count
        return torch.cat(parts)

    def _render(self, index: int, corner: Numbers, canvas: Pixels) -> None:
        """Paste all pieces that a part of a picture shows onto a black canvas, (h, w)."""
        corners, pixels = self._pieces(index)
        corners = corners - corner
        shown = ((corners > -_PIECE) & (corners < canvas.shape)).all(axis=1)
        for (top, left), piece in zip(corners[shown].tolist(), pixels[shown], strict=True):
            above, before = max(0, -top), max(0, -left)
            target = canvas[max(0, top) : top + _PIECE, max(0, left) : left + _PIECE]
            target[...] = piece[above : above + target.shape[0], before : before + target.shape[1]]


@IMAGES.register("megapixel-mnist")
def megapixel_mnist(
    side: int = 1500,
    train: int = 5000,
    test: int = 1000,
    noise: int | None = None,
    task: str = "majority",
    order: str = "noise-first",
    *,
    split: str,
    seed: int,
    data_root: Path,
) -> MegapixelMNIST:
    """Pictures of MNIST digits; val has as many as test, with digits that are not in train."""
    return MegapixelMNIST(
        *mnist_digits(split, data_root),
        side=side,
        images=train if split == "train" else test,
        # As published: 50 on 1500×1500, 800 on 3000×3000.
        noise=(50 if side < 3000 else 800) if noise is None else noise,
        task=task,  # type: ignore[arg-type]
        order=order,  # type: ignore[arg-type]
        seed=seed,
        split=SPLITS.index(split),
    )
