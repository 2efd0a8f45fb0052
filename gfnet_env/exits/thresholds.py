"""Confidence thresholds: for given exit shares, and for the best accuracy at a price."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt

from gfnet_env.arrays import as_array
from gfnet_env.settings import AtLeast, checked

# No confidence reaches this threshold.
NEVER = 2.0
# At ratios of e^±30, all but a 1e-12th exit at the first or at the last step.
_LOG_RATIO = 30.0
_BISECTIONS = 60
_MAX_ROUNDS = 20


def geometric_shares(ratio: float, steps: int) -> npt.NDArray[np.float64]:
    """Exit shares q_t ∝ ratio^t of ``steps`` steps (GFNet, section 4.1; MSDNet, Huang et al. 2018).

    Raises:
        ValueError: The ratio is not positive and finite, or there are no steps.
    """
    if not 0 < ratio < math.inf:
        raise ValueError(f"ratio must be positive and finite, not {ratio}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return _shares(np.array(math.log(ratio)), steps)


def _shares(log_ratios: npt.NDArray[np.float64], steps: int) -> npt.NDArray[np.float64]:
    """Geometric exit shares, (..., T), for logarithms of ratios (...)."""
    # Relative to the largest, so that no power overflows.
    exponents = log_ratios[..., None] * np.arange(steps)
    shares = np.exp(exponents - exponents.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def thresholds_for_shares(
    confidence: npt.NDArray[np.floating], shares: Sequence[float] | npt.NDArray[np.float64]
) -> list[float]:
    """Thresholds under which the given shares of images exit at each step.

    Args:
        confidence: Confidence for N images of a calibration split after each of T steps, (N, T).
        shares: Share of the images that should exit at each step, (T,), adding up to 1.

    Returns:
        T thresholds, see ``ThresholdExit``; the last is 0. Images of equal confidence exit
        together, so the shares are met as closely as that allows.

    Raises:
        ValueError: A shape is wrong, or a number is negative or not finite.
    """
    confidence = as_array(confidence, "confidences")
    shares = as_array(shares, "shares").astype(np.float64)
    if confidence.ndim != 2 or len(confidence) == 0 or shares.shape != (confidence.shape[1],):
        raise ValueError(
            f"confidence must be (N, T) and shares (T,), not {confidence.shape} and {shares.shape}"
        )
    if not (np.isfinite(confidence).all() and np.isfinite(shares).all() and (shares >= 0).all()):
        raise ValueError("confidences and shares must be finite, and shares at least 0")
    if not np.isclose(shares.sum(), 1):
        raise ValueError(f"shares must add up to 1, not {shares.sum()}")
    wanted = np.round(np.cumsum(shares) * len(confidence)).astype(int)
    thresholds = []
    remaining = confidence
    for step in range(len(shares) - 1):
        exits = wanted[step] - (len(confidence) - len(remaining))
        threshold = _threshold_for(remaining[:, step], exits)
        thresholds.append(threshold)
        remaining = remaining[remaining[:, step] < threshold]
    return [*thresholds, 0.0]


def shares_for_cost(
    cost: npt.ArrayLike, step_costs: Sequence[float] | npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """The geometric exit shares whose mean cost is ``cost``; at the extremes, all exit at one step.

    Args:
        cost: Mean cost per image, or several, (...); the shares are then (..., T).
        step_costs: Cost of an image that exits at each step, (T,), rising.

    Raises:
        ValueError: A cost is below the first step's or above the last step's, or the costs of the
            steps do not rise.
    """
    wanted = as_array(cost, "costs").astype(np.float64)
    costs = as_array(step_costs, "step_costs").astype(np.float64)
    if costs.ndim != 1 or len(costs) == 0 or not (np.diff(costs) >= 0).all():
        raise ValueError(f"step_costs must be numbers that rise from step to step, not {costs}")
    wrong = wanted[~((costs[0] <= wanted) & (wanted <= costs[-1]))]
    if len(wrong):
        raise ValueError(
            f"no exits cost {wrong[0]:g} on average; costs range from {costs[0]:g} to {costs[-1]:g}"
        )
    low, high = (np.full(wanted.shape, end) for end in (-_LOG_RATIO, _LOG_RATIO))
    # The mean cost rises with the ratio of the shares.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        cheaper = _shares(middle, len(costs)) @ costs < wanted
        low, high = np.where(cheaper, middle, low), np.where(cheaper, high, middle)
    shares = _shares((low + high) / 2, len(costs))
    for end in (-1, 0):
        shares[wanted == costs[end]] = np.eye(len(costs))[end]
    return shares


def thresholds_for_price(
    confidence: npt.NDArray[np.floating],
    correct: npt.NDArray[np.bool_],
    costs: npt.ArrayLike,
    price: float,
) -> list[float]:
    """Thresholds that maximise accuracy − price · mean cost over the given images.

    Coordinate ascent sets one threshold after the other to its best value until none changes. The
    first round goes backwards from the last step, as if no image had exited before.

    Args:
        confidence: Confidence for N images of a calibration split after each of T steps, (N, T).
        correct: Whether the most confident class was the true one, (N, T).
        costs: Cost of an exit at each step, (T,), or for each image, (N, T).
        price: Gain in accuracy that a unit of cost must bring, at least 0.

    Returns:
        T thresholds; the last is 0.

    Raises:
        ValueError: A shape is wrong, or the price is negative or not finite.
    """
    price = checked("price", price, Annotated[float, AtLeast(0)])
    if confidence.ndim != 2 or confidence.shape != correct.shape:
        raise ValueError(
            f"confidence and correct must be (N, T), not {confidence.shape} and {correct.shape}"
        )
    value = correct - price * np.asarray(costs, dtype=np.float64)
    steps = confidence.shape[1]
    thresholds = [0.0] * steps

    def best(step: int, reached: npt.NDArray[np.int64]) -> float:
        going_on = [*[NEVER] * (step + 1), *thresholds[step + 1 :]]
        exits = exit_steps(confidence[reached], going_on)
        later = value[reached][np.arange(len(exits)), exits]
        return _best_threshold(confidence[reached, step], value[reached, step] - later)

    for step in reversed(range(steps - 1)):
        thresholds[step] = best(step, np.arange(len(confidence)))
    for _ in range(_MAX_ROUNDS):
        before = list(thresholds)
        for step in range(steps - 1):
            stayed = (confidence[:, :step] < np.asarray(thresholds[:step])).all(axis=1)
            thresholds[step] = best(step, np.flatnonzero(stayed))
        if thresholds == before:
            break
    return thresholds


def exit_steps(
    confidence: npt.NDArray[np.floating], thresholds: Sequence[float]
) -> npt.NDArray[np.int64]:
    """The step at which each image exits, (N,) in [0, T - 1], by its confidences (N, T)."""
    if len(thresholds) != confidence.shape[1]:
        raise ValueError(
            f"{confidence.shape[1]} thresholds are needed, one per step, not {len(thresholds)}"
        )
    reached = confidence >= np.asarray(thresholds)
    reached[:, -1] = True
    return reached.argmax(axis=1)


def _best_threshold(confidence: npt.NDArray[np.floating], gain: npt.NDArray[np.float64]) -> float:
    """The threshold with the highest total gain, with the fewest exits among equals.

    Args:
        confidence: Confidence for the images that may exit, (R,).
        gain: Value of exiting now minus the value of going on, (R,).
    """
    if len(confidence) == 0:
        return NEVER
    order = np.argsort(-confidence, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(gain[order])])
    # Equal confidences exit together or not at all.
    splits = np.flatnonzero(np.diff(confidence[order]) < 0) + 1
    cuts = np.array([0, *splits, len(confidence)])
    best = int(cuts[sums[cuts].argmax()])
    return _threshold_for(confidence, best)


def _threshold_for(confidence: npt.NDArray[np.floating], exits: int) -> float:
    """The threshold that the ``exits`` highest confidences reach."""
    if exits <= 0:
        return NEVER
    if exits >= len(confidence):
        return 0.0
    ordered = np.sort(confidence)
    below, reached = ordered[-exits - 1], ordered[-exits]
    # Half-way to the next lower confidence: the batch size changes how sums are rounded, and an
    # image should exit at the same step in every batch.
    middle = (below + reached) / 2
    return float(middle if below < middle else reached)
