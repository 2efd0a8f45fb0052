"""Classify pictures: class, confidence, exit and cost of each; draw where it looked.

python experiments/classify.py --run runs/photos-policy PICTURE [PICTURE ...] --picture looked.png
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks.report import draw_predictions
from gfnet_env.data import load_picture
from gfnet_env.inference import Prediction
from gfnet_env.runs import resolve_device


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """What to classify, and how."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Picture files."""
    run: Path
    """Run folder of an assembled network."""
    image_size: int | None = None
    """Side they are brought to, in pixels, or 0 to leave them; by default as in training."""
    multiply_adds: float | None = None
    """Mean cost to set the thresholds for; by default those of the run."""
    picture: Path | None = None
    """File to draw into where the network looked."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def classify_all(gfnet: EarlyExitGFNet, images: Sequence[Tensor]) -> list[Prediction]:
    """A prediction for each image, (3, H, W) uint8; those of one size share a batch."""
    by_size: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(number)
    predictions: dict[int, Prediction] = {}
    for numbers in by_size.values():
        alone = len(numbers) == 1
        batch = images[numbers[0]][None] if alone else torch.stack([images[n] for n in numbers])
        prediction = gfnet(batch)
        predictions |= {n: prediction.select(slice(row, row + 1)) for row, n in enumerate(numbers)}
    return [predictions[number] for number in range(len(images))]


def classify_pictures(config: ClassifyConfig) -> None:
    """Load, classify, print, draw."""
    if not config.pictures:
        raise ValueError("there is nothing to classify; give one picture or more")
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    if config.multiply_adds is not None:
        gfnet.set_budget(multiply_adds=config.multiply_adds)
    trained_on = gfnet.network.config.metadata
    size = trained_on.get("image_size") if config.image_size is None else config.image_size
    share = trained_on.get("crop", 1)
    decoded = [load_picture(path, size or None, share=share) for path in config.pictures]
    # Seen as (3, H, W) where they lie: nothing of a big picture is copied.
    images = [torch.from_numpy(picture).permute(2, 0, 1) for picture in decoded]
    predictions = classify_all(gfnet, images)
    names = gfnet.network.config.class_names
    for path, prediction in zip(config.pictures, predictions, strict=True):
        number = int(prediction.classes[0])
        print(
            f"{path}: {names[number] if names else number} {float(prediction.confidence[0]):.1%}, "
            f"exit at step {int(prediction.exit_step[0])}, "
            f"{int(prediction.multiply_adds[0]) / 1e6:.2f} M multiply-adds"
        )
    if config.picture is not None:
        draw_predictions(gfnet, images, predictions, config.picture)


if __name__ == "__main__":
    classify_pictures(tyro.cli(ClassifyConfig, description=__doc__))
