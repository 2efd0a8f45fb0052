"""Helpers for the tables and plots of all results."""

import csv
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gfnet_env.env.rendering import above_caption, caption, taken_looks, with_windows
from gfnet_env.files import write_atomically
from gfnet_env.images import ImageSet
from gfnet_env.inference import Answers
from gfnet_env.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of sheets: the longer side of a picture, the least width of its caption, the space between two
# pictures and the height of a name, in pixels; and how many pictures make a row.
_SIDE, _NARROWEST, _MARGIN, _TITLE_HEIGHT = 280, 160, 8, 20
_COLUMNS = 6


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
    """Write ``answers_sheet`` to a file.

    Raises:
        ValueError: The file has no format for pictures.
    """
    sheet = answers_sheet(model, images, indices, answers, labelled=labelled)
    kind = sheet_format(path)
    write_atomically(path, lambda temporary: sheet.save(temporary, format=kind))


def answers_sheet(
    model: Model,
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    answers: Mapping[str, Answers],
    *,
    labelled: bool = True,
) -> Image.Image:
    """Draw images with the looks at them and a caption.

    Args:
        model: The model that looked.
        images: The set.
        indices: Indices of the images, (S,).
        answers: Answers for these images, by name: one row of pictures per name, or several rows if
            there is only one name.
        labelled: Whether the captions name the true class where another was predicted.
    """
    labels = images.labels[indices].tolist() if labelled else [None] * len(indices)

    def draw(answer: Answers, row: int) -> Image.Image:
        looks = taken_looks(answer.locations[row].cpu(), answer.scales[row].cpu())
        prediction, confidence = int(answer.classes[row]), float(answer.confidence[row])
        text = caption(model.class_names, prediction, labels[row], confidence)
        number = int(indices[row])
        longer = int(images.sizes([number]).max())
        scale = _SIDE / longer if longer > _SIDE else _SIDE // longer
        picture = with_windows(images, number, looks, model.view, scale)
        return above_caption(picture, text, max(picture.width, _NARROWEST))

    columns = len(indices) if len(answers) > 1 else min(len(indices), _COLUMNS)
    rows: list[tuple[str, list[Image.Image]]] = []
    for name, answer in answers.items():
        drawn = [draw(answer, row) for row in range(len(indices))]
        rows += [(name, drawn[first : first + columns]) for first in range(0, len(drawn), columns)]
    return _sheet(rows)


def sheet_format(path: Path) -> str:
    """Pillow's name of the format of a file; PNG without an ending.

    Raises:
        ValueError: There is no such format.
    """
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".pdf": "PDF"}
    kind = kinds.get(path.suffix.lower() or ".png")
    if kind is None:
        raise ValueError(f"no picture can be written as {path}; end it in {', '.join(kinds)}")
    return kind


def _sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Rows of pictures, each below its name; all cells have the size of the largest picture."""
    font = ImageFont.load_default(size=14)
    every = [picture for _, pictures in rows for picture in pictures]
    width = max(picture.width for picture in every) + _MARGIN
    title = _TITLE_HEIGHT * any(name for name, _ in rows)
    height = max(picture.height for picture in every) + _MARGIN + title
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (columns * width, len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, pictures) in enumerate(rows):
        pen.text((4, row * height + 2), name, fill="black", font=font)
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * width, row * height + title))
    return sheet


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

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


# Other formats of plots, and what keeps the time of writing out of them.
_FORMATS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_wanted: list[str] = []


def plot_as(formats: Sequence[str]) -> None:
    """Write all plots of this process as ``svg`` or ``pdf`` too, beside PNG.

    Raises:
        ValueError: There is no such format.
    """
    for each in formats:
        if each not in _FORMATS:
            raise ValueError(
                f"plots can be written as {' and '.join(_FORMATS)} too, not as {each!r}"
            )
    _wanted[:] = formats


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, and as what ``plot_as`` asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # ``savefig`` draws twice.
    write_atomically(path, FigureCanvasAgg(figure).print_png)
    for kind in _wanted:
        save = functools.partial(figure.savefig, format=kind, metadata=_FORMATS[kind])
        write_atomically(path.with_suffix(f".{kind}"), save)
