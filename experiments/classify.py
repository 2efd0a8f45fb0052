"""Classify pictures: print class, confidence, exit and cost of each; draw where the network looked.

python experiments/classify.py --run runs/photos-policy PICTURE [FOLDER ...] --picture looked.png
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from gfnet_env import EarlyExitGFNet, rows
from gfnet_env.benchmarks.report import draw_answers, sheet_format
from gfnet_env.command_line import parse
from gfnet_env.images import FolderImages
from gfnet_env.images.base import Numbers
from gfnet_env.images.folder import EXTENSIONS
from gfnet_env.inference import Prediction, is_assembled
from gfnet_env.models import Model
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Positional, Settings

# More would make a picture that no program opens.
_MOST_DRAWN = 120


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(Settings):
    """What to classify, and how."""

    pictures: Positional[tuple[Path, ...]]
    """Picture files, or folders of picture files."""
    run: Path
    """Run folder of an assembled network, or of all three stages."""
    image_size: Annotated[int | None, AtLeast(0)] = None
    """Side of the pictures in pixels, or 0 to leave their size; by default as in training."""
    multiply_adds: float | None = None
    """Mean cost in multiply-adds to set the thresholds for; by default the run's thresholds."""
    picture: Path | None = None
    """File for a drawing of where the network looked."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picture is not None:
            sheet_format(self.picture)


def main(config: ClassifyConfig) -> None:
    """Load, classify, print, draw."""
    files, errors = list[Path](), list[Exception]()
    for path in config.pictures:
        found = list(picture_files([path]))
        files += found
        if not found:
            errors.append(
                ValueError(
                    f"there is no picture in {path} ({', '.join(sorted(EXTENSIONS))}); give "
                    "another folder, or picture files"
                )
            )
    if not files:
        raise errors[0]
    gfnet = EarlyExitGFNet.load(assembled(config.run)).to(resolve_device(config.device))
    if config.multiply_adds is not None:
        gfnet.set_budget(multiply_adds=config.multiply_adds)
    images = open_pictures(files, gfnet.model, config.image_size)
    numbers = np.arange(len(files))
    try:
        prediction = gfnet.classify(images, batch_size=64)
    except (OSError, ValueError):
        # One by one, so that a damaged picture costs no other its answer.
        numbers, prediction, unread = _one_by_one(gfnet, images)
        errors += unread
    names = gfnet.model.class_names
    for row, file in enumerate(numbers):
        number = int(prediction.classes[row])
        print(
            f"{files[file]}: {names[number] if names else number} "
            f"{float(prediction.confidence[row]):.1%}, "
            f"exit at step {int(prediction.exit_step[row])}, "
            f"{int(prediction.multiply_adds[row]) / 1e6:.2f} M multiply-adds"
        )
    if config.picture is not None and len(numbers):
        drawn = numbers[:_MOST_DRAWN]
        answers = {"": rows.select(prediction, torch.arange(len(drawn)))}
        draw_answers(gfnet.model, images, drawn, answers, config.picture, labelled=False)
        if len(drawn) < len(numbers):
            print(f"{config.picture} shows the first {len(drawn)} of {len(numbers)} pictures")
    if errors:
        sys.exit("\n".join(f"error: {error}" for error in errors))


def _one_by_one(
    gfnet: EarlyExitGFNet, images: FolderImages
) -> tuple[Numbers, Prediction, list[Exception]]:
    """The numbers of the pictures that can be read, their answers, and the others' errors."""
    numbers: list[int] = []
    errors: list[Exception] = []
    # An empty batch, for the case that none can be read.
    predictions = [gfnet(images, np.arange(0))]
    for number in range(len(images)):
        try:
            predictions.append(gfnet(images, np.array([number])))
            numbers.append(number)
        except (OSError, ValueError) as error:
            errors.append(error)
    return np.array(numbers, dtype=np.int64), rows.concatenate(predictions), errors


def picture_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and all pictures below the folders but hidden ones."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                if file.suffix.lower() in EXTENSIONS and file.is_file() and not is_hidden:
                    yield file
        else:
            yield path


def assembled(run: Path) -> Path:
    """The folder of a run's assembled network: the run folder, or its last stage that has one."""
    folders = (run, *(run / f"stage{number}" for number in (3, 2, 1)))
    return next(filter(is_assembled, folders), run)


def open_pictures(files: Sequence[Path], model: Model, image_size: int | None) -> FolderImages:
    """Open pictures, brought to a size, by default as in training; 0 leaves them unchanged."""
    data = model.trained_on
    if image_size and data.fit == "whole":
        raise ValueError("this network sees whole pictures as they are; leave out --image-size")
    size = data.image_size if image_size is None else image_size
    labels, names = [0] * len(files), model.class_names or ()
    if not size:
        return FolderImages(files, labels, names)
    return FolderImages(files, labels, names, image_size=size, fit=data.fit, crop=data.crop)


if __name__ == "__main__":
    main(parse(ClassifyConfig, __doc__))
