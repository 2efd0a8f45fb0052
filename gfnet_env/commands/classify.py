"""Classify pictures with a saved network."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from gfnet_env import rows
from gfnet_env.benchmarks.animation import draw_animation
from gfnet_env.benchmarks.report import draw_answers, sheet_format
from gfnet_env.command_line import print_error
from gfnet_env.console import Bars, PlainConsole
from gfnet_env.files import check_files, write_text
from gfnet_env.images import FolderImages
from gfnet_env.images.base import Numbers
from gfnet_env.images.folder import EXTENSIONS
from gfnet_env.inference import EarlyExitGFNet, Prediction, assembled_in
from gfnet_env.matching import open_pictures
from gfnet_env.models import Model
from gfnet_env.planning import Plan, plan_passes
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Positional, Settings

_BATCH = 64
# More would make a picture that no program opens.
_MOST_DRAWN = 120
_ANIMATED = 15


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(Settings):
    """What to classify, and how."""

    pictures: Positional[tuple[Path, ...]]
    """Picture files, or folders of picture files."""
    run: Path
    """Run folder of an assembled network, or of all stages, of which the last one counts."""
    csv: Path | None = None
    """File for a table of the answers, in place of a printed line for each picture."""
    top_k: Annotated[int, AtLeast(1)] = 1
    """Number of classes to name for each picture, most probable first."""
    skip_unreadable: bool = False
    """Whether pictures that cannot be read are only listed; by default they are errors, which cost
    the other pictures nothing."""
    image_size: Annotated[int | None, AtLeast(0)] = None
    """Side of the pictures in pixels, or 0 to leave their size; by default as in training."""
    multiply_adds: float | None = None
    """Mean cost in multiply-adds to set the thresholds for; by default the run's thresholds."""
    picture: Path | None = None
    """File for a drawing of where the network looked."""
    gif: Path | None = None
    """File for an animation of it, look by look, of the first 15 pictures."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picture is not None:
            sheet_format(self.picture)
        if self.csv is not None and self.csv.suffix.lower() in EXTENSIONS:
            # A shell makes one of --csv *.jpg.
            raise ValueError(f"csv must be a file for a table, not the picture {self.csv}")
        if self.gif is not None and self.gif.suffix.lower() != ".gif":
            raise ValueError(f"gif must end in .gif, not be {self.gif}")


@dataclass(frozen=True)
class Answer:
    """The answer for one picture.

    Attributes:
        picture: Its file.
        classes: The most probable classes, and their probabilities.
        exit_step: Looks taken.
        multiply_adds: Cost.
    """

    picture: Path
    classes: Sequence[tuple[str, float]]
    exit_step: int
    multiply_adds: int

    def __str__(self) -> str:
        named = ", ".join(f"{name} {probability:.1%}" for name, probability in self.classes)
        cost = f"{self.multiply_adds / 1e6:.2f} M multiply-adds"
        return f"{self.picture}: {named}, exit at step {self.exit_step}, {cost}"


def classify(config: ClassifyConfig) -> list[Answer]:
    """Classify, print or write the answers, draw.

    Raises:
        FileNotFoundError: There is no such run.
        OSError: ``config.csv`` or a drawing cannot be written.
        SystemExit: Pictures could not be read, which are listed after the answers of the others.
        ValueError: There are no pictures, or a value is wrong.
    """
    files, errors = _files(config)
    gfnet = load_gfnet(config)
    images = open_pictures(files, gfnet.model, config.image_size)
    answers: list[Answer] = []
    drawn: list[tuple[Numbers, Prediction]] = []
    is_drawn = config.picture is not None or config.gif is not None
    console = PlainConsole(soft_wrap=True, highlight=False)
    with Bars(disable=config.csv is None) as progress:
        bar = progress.add_task("pictures", total=len(files))
        for begin in range(0, len(files), _BATCH):
            batch = np.arange(begin, min(begin + _BATCH, len(files)))
            numbers, prediction, unread = _readable(gfnet, images, batch)
            errors += unread
            found = _answers(numbers, prediction, files, gfnet.model, config.top_k)
            answers += found
            if sum(len(each) for each, _ in drawn) < _MOST_DRAWN and is_drawn:
                drawn.append((numbers, prediction))
            if config.csv is None:
                for answer in found:
                    console.print(str(answer))
            progress.advance(bar, len(batch))
    if config.csv is not None:
        write_text(config.csv, _table(answers, config.top_k))
        console.print(f"{config.csv} holds the answers for {len(answers)} pictures")
    if config.picture is not None and answers:
        _draw(config.picture, gfnet.model, images, drawn, len(answers))
    if config.gif is not None and answers:
        animated = np.concatenate([numbers for numbers, _ in drawn])[:_ANIMATED]
        draw_animation(gfnet, images, animated, config.gif)
        _say_drawn(config.gif, len(animated), len(answers))
    for error in errors:
        print_error(str(error), kind="skipped" if config.skip_unreadable else "error")
    if errors and not (config.skip_unreadable and answers):
        sys.exit(1)
    return answers


def plan_classify(config: ClassifyConfig) -> Plan:
    """What ``classify`` would do and cost."""
    files, errors = _files(config)
    if errors:
        raise errors[0]
    gfnet = load_gfnet(config)
    images = open_pictures(files, gfnet.model, config.image_size)
    return plan_passes(config, gfnet, {"pictures": images}, {"pictures": 1})


def _files(config: ClassifyConfig) -> tuple[list[Path], list[Exception]]:
    """``find_pictures``; raises an error unless the outputs can be written beside them."""
    drawings = [each for each in (config.picture, config.gif) if each is not None]
    check_files(config.csv, *drawings)
    files, errors = find_pictures(config.pictures)
    given = set(map(Path.resolve, files)) if drawings else set()
    for drawn in drawings:
        if drawn.resolve() in given:
            raise ValueError(f"{drawn} is a picture to classify; give another file for the drawing")
    return files, errors


def find_pictures(paths: Sequence[Path]) -> tuple[list[Path], list[Exception]]:
    """The files, all pictures below the folders but hidden ones, and an error for an empty folder.

    Raises:
        ValueError: There is no picture at all.
    """
    files, errors = list[Path](), list[Exception]()
    for path in paths:
        found = list(_below(path)) if path.is_dir() else [path]
        files += found
        if not found:
            errors.append(
                ValueError(
                    f"there is no picture in {path} ({', '.join(sorted(EXTENSIONS))}); give "
                    "another folder, or picture files"
                )
            )
    if not files:
        raise errors[0] if errors else ValueError("give pictures, or folders of them")
    return files, errors


def _below(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in EXTENSIONS and file.is_file() and not is_hidden:
            yield file


def load_gfnet(config: ClassifyConfig) -> EarlyExitGFNet:
    """The network, with thresholds for its budget.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It knows fewer classes than are to be named, or the budget is too low.
    """
    gfnet = EarlyExitGFNet.load(assembled_in(config.run)).to(resolve_device(config.device))
    if config.top_k > gfnet.model.num_classes:
        raise ValueError(
            f"top_k is {config.top_k}, but the network knows {gfnet.model.num_classes} classes; "
            "give fewer"
        )
    if config.multiply_adds is not None:
        gfnet.set_budget(multiply_adds=config.multiply_adds)
    return gfnet


def _readable(
    gfnet: EarlyExitGFNet, images: FolderImages, batch: Numbers
) -> tuple[Numbers, Prediction, list[Exception]]:
    """The numbers of the pictures of a batch that can be read, their answers, others' errors."""
    try:
        return batch, gfnet(images, batch), []
    except (OSError, ValueError):
        # One by one, so that a damaged picture costs no other its answer.
        numbers, errors = list[int](), list[Exception]()
    # An empty batch, for the case that none can be read.
    predictions = [gfnet(images, batch[:0])]
    for number in batch.tolist():
        try:
            predictions.append(gfnet(images, np.array([number])))
            numbers.append(number)
        except (OSError, ValueError) as error:
            errors.append(error)
    return np.array(numbers, dtype=np.int64), rows.concatenate(predictions), errors


def _answers(
    numbers: Numbers, prediction: Prediction, files: Sequence[Path], model: Model, top_k: int
) -> list[Answer]:
    top = prediction.probabilities.topk(top_k)
    names = model.class_names or tuple(map(str, range(model.num_classes)))
    return [
        Answer(
            picture=files[number],
            classes=[(names[each], value) for value, each in zip(*best, strict=True)],
            exit_step=step,
            multiply_adds=cost,
        )
        for number, best, step, cost in zip(
            numbers.tolist(),
            zip(top.values.tolist(), top.indices.tolist(), strict=True),
            prediction.exit_step.tolist(),
            prediction.multiply_adds.tolist(),
            strict=True,
        )
    ]


def _table(answers: Sequence[Answer], top_k: int) -> str:
    """The answers as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = [(f"class_{rank}", f"probability_{rank}") for rank in range(1, top_k + 1)]
    writer.writerow(
        ["picture", *(name for pair in ranks for name in pair), "looks", "multiply_adds"]
    )
    for each in answers:
        best = [value for name, share in each.classes for value in (name, f"{share:.6f}")]
        writer.writerow([each.picture, *best, each.exit_step, each.multiply_adds])
    return text.getvalue()


def _draw(
    path: Path,
    model: Model,
    images: FolderImages,
    parts: Sequence[tuple[Numbers, Prediction]],
    count: int,
) -> None:
    """Draw where the network looked in the first pictures."""
    shown = np.concatenate([numbers for numbers, _ in parts])[:_MOST_DRAWN]
    prediction = rows.concatenate([each for _, each in parts])
    answers = {"": rows.select(prediction, torch.arange(len(shown)))}
    draw_answers(model, images, shown, answers, path, labelled=False)
    _say_drawn(path, len(shown), count)


def _say_drawn(path: Path, shown: int, count: int) -> None:
    part = "" if shown == count else f" for the first {shown} of {count} pictures"
    print(f"{path} shows where the network looked{part}")
