"""Operating points of an early exit: thresholds, and the accuracy and cost they give."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gfnet_env.data import ImageSet, batches
from gfnet_env.inference.early_exit import EarlyExitGFNet, Prediction
from gfnet_env.inference.evaluation import evaluate_policy
from gfnet_env.inference.thresholds import exit_steps, geometric_shares, thresholds_for_shares

# Ratios of the geometric exit shares: from nearly all at the glance to nearly all at the end.
RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)


@dataclass(frozen=True)
class OperatingPoint:
    """What a set of thresholds gives on some images.

    Attributes:
        thresholds: One per step, T of them.
        accuracy: Share of correct images.
        multiply_adds: Mean per image.
        exit_share: Share of the images that exit at each step, T of them.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    multiply_adds: float
    exit_share: tuple[float, ...]


def solve_operating_points(
    gfnet: EarlyExitGFNet, images: ImageSet, ratios: Sequence[float] = RATIOS
) -> list[OperatingPoint]:
    """Thresholds for geometric exit shares on a calibration split, and what they give there."""
    record = evaluate_policy(gfnet.network, gfnet.policy, images)
    steps = len(gfnet.thresholds)
    points = []
    for ratio in ratios:
        thresholds = thresholds_for_shares(record.confidence, geometric_shares(ratio, steps))
        exits = exit_steps(record.confidence, thresholds)
        correct = record.correct[np.arange(len(exits)), exits]
        points.append(_point(gfnet, thresholds, correct, exits))
    return points


def choose_operating_point(
    points: Sequence[OperatingPoint], tolerance: float = 0.005
) -> OperatingPoint:
    """The cheapest point whose accuracy is within ``tolerance`` of the best."""
    enough = max(point.accuracy for point in points) - tolerance
    return min(
        (point for point in points if point.accuracy >= enough),
        key=lambda point: point.multiply_adds,
    )


def measure_operating_point(
    gfnet: EarlyExitGFNet, thresholds: Sequence[float], images: ImageSet
) -> OperatingPoint:
    """Set the thresholds, run the network, exits and all, and see what they give."""
    gfnet.set_thresholds(thresholds)
    prediction = classify(gfnet, images)
    correct = (prediction.classes.cpu() == images.labels).numpy()
    return _point(gfnet, thresholds, correct, prediction.exit_step.cpu().numpy())


def classify(gfnet: EarlyExitGFNet, images: ImageSet, batch_size: int = 256) -> Prediction:
    """The predictions for a whole set."""
    device = gfnet.network.device
    parts = [gfnet(batch.pixels) for batch in batches(images, batch_size, device=device)]
    names = [item.name for item in dataclasses.fields(Prediction)]
    return Prediction(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _point(
    gfnet: EarlyExitGFNet,
    thresholds: Sequence[float],
    correct: npt.NDArray[np.bool_],
    exits: npt.NDArray[np.int64],
) -> OperatingPoint:
    share = np.bincount(exits, minlength=len(gfnet.thresholds)) / len(exits)
    return OperatingPoint(
        thresholds=tuple(thresholds),
        accuracy=float(correct.mean()),
        multiply_adds=float(np.array(gfnet.multiply_adds)[exits].mean()),
        exit_share=tuple(share.tolist()),
    )
