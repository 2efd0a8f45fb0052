"""Helpers for the tables and plots of all results."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gfnet_env.env.rendering import caption, draw_looks, taken_looks
from gfnet_env.files import write_atomically
from gfnet_env.images import ImageSet
from gfnet_env.inference import Answers
from gfnet_env.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = ("png", "jpg", "jpeg", "pdf", "svg", "tif", "tiff", "webp")


def step_names(steps: int) -> list[str]:
    """The names of T steps in tables."""
    return ["glance", *(f"look {number}" for number in range(1, steps))]


def millions(multiply_adds: float) -> str:
    """Multiply-adds in tables."""
    return f"{multiply_adds / 1e6:.2f} M"


def draw_answers(
    model: Model,
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    answers: Mapping[str, Answers],
    path: Path,
    *,
    labelled: bool = True,
) -> None:
    """Draw images with the looks at them and a caption.

    Args:
        model: The model that looked.
        images: The set.
        indices: Indices of the images, (S,).
        answers: Answers for these images, by name: one row of pictures per name, or several rows if
            there is only one name.
        path: The picture's file.
        labelled: Whether the captions name the true class where another was predicted.
    """
    labels = images.labels[indices].tolist() if labelled else [None] * len(indices)
    columns = len(indices) if len(answers) > 1 else min(len(indices), 6)
    rows = -(-len(answers) * len(indices) // columns)
    figure = new_figure(2.2 * columns, 2.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    numbers = itertools.product(answers.values(), range(len(indices)))
    for axes, (answer, row) in zip(grid.flat, numbers, strict=False):
        looks = taken_looks(answer.locations[row].cpu(), answer.scales[row].cpu())
        prediction, confidence = int(answer.classes[row]), float(answer.confidence[row])
        text = caption(model.class_names, prediction, labels[row], confidence)
        axes.imshow(draw_looks(images, int(indices[row]), looks, model.view, text))
    for name, axes in zip(answers, grid[:, 0], strict=False):
        axes.set_title(name, loc="left", fontsize=10)
    save_figure(figure, path)


def write_rows(header: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Write a table as CSV."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    write_atomically(path, write)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sides in inches."""
    # Imported here: few commands draw, and matplotlib is slow to import.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure in the format of the file's ending; PNG without one.

    Raises:
        ValueError: There is no such format.
    """
    # Named, since matplotlib adds an ending of its own to a file that has none.
    kind = figure_format(path)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format=kind))


def figure_format(path: Path) -> str:
    """The format of a figure's file; raises ``ValueError`` if there is none of its ending."""
    kind = path.suffix.lstrip(".").lower() or "png"
    if kind not in _FORMATS:
        raise ValueError(f"no picture can be written as {path}; end it in {', '.join(_FORMATS)}")
    return kind
