"""Budgets: thresholds for a mean cost, and the accuracy that they bring."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from gfnet_env.inference.evaluation import Record
from gfnet_env.inference.thresholds import (
    exit_steps,
    shares_for_cost,
    thresholds_for_price,
    thresholds_for_shares,
)

Method = Literal["geometric", "searched"]

# From one budget of a table to the next; what is asked for between them is interpolated.
_SPACING = 1.02
_PRICES = 200


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

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """A point of what ``dataclasses.asdict`` made of it, after a way through JSON.

        Raises:
            ValueError: Something is missing, or is no number.
        """
        try:
            return cls(
                thresholds=tuple(map(float, saved["thresholds"])),
                accuracy=float(saved["accuracy"]),
                multiply_adds=float(saved["multiply_adds"]),
                exit_share=tuple(map(float, saved["exit_share"])),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{saved} is no operating point ({error!r})") from error


def solve_budgets(
    record: Record,
    step_costs: Sequence[int] | npt.NDArray[np.integer],
    method: Method = "geometric",
) -> list[OperatingPoint]:
    """Thresholds for mean costs from one step's to that of all.

    Args:
        record: Every step of the images of a calibration split.
        step_costs: Multiply-adds of an image that exits at each step, (T,).
        method: ``geometric`` takes exit shares q_t ∝ ratio^t (GFNet, section 4.1), from all at the
            glance to all at the last step. ``searched`` looks for the thresholds of most accuracy
            at each cost and keeps those that none beats: more accurate where the calibration split
            is large. Its costs end where more of them would buy nothing there, so that it may spend
            less than a budget.

    Returns:
        Operating points by rising cost, their figures those of the calibration split.

    Raises:
        ValueError: There is no such method.
    """
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}: {' or '.join(get_args(Method))}")
    costs = np.asarray(step_costs, dtype=np.float64)
    count = 1 + math.ceil(math.log(costs[-1] / costs[0]) / math.log(_SPACING))
    points = [
        operating_point(record, costs, thresholds_for_shares(record.confidence, shares))
        for shares in (shares_for_cost(c, costs) for c in _geometric_grid(costs, count))
    ]
    if method == "searched":
        # From all at the glance to accuracy at any cost.
        prices = np.geomspace(1e-4, 10, _PRICES) / (costs[-1] - costs[0])
        points += [
            operating_point(
                record,
                costs,
                thresholds_for_price(record.confidence, record.correct, costs, price),
            )
            for price in (0.0, *prices)
        ]
        points = _unbeaten(points)
        points = _unbeaten([*points, *_between_neighbours(record, costs, points)])
    return sorted(points, key=lambda point: point.multiply_adds)


def point_within(
    points: Sequence[OperatingPoint], costs: Sequence[float], budget: float
) -> OperatingPoint:
    """The point that spends a budget: between two points of a table, thresholds between theirs.

    Args:
        points: By rising cost.
        costs: Mean cost of each, in the unit of the budget.
        budget: At least the first cost; what is above the last is not spent.
    """
    number = max(number for number, cost in enumerate(costs) if cost <= budget)
    if number == len(points) - 1:
        return points[-1]
    below, above = points[number], points[number + 1]
    weight = (budget - costs[number]) / (costs[number + 1] - costs[number])

    def between(one: float, other: float) -> float:
        return (1 - weight) * one + weight * other

    return OperatingPoint(
        thresholds=_thresholds_between(below, above, weight),
        accuracy=between(below.accuracy, above.accuracy),
        multiply_adds=between(below.multiply_adds, above.multiply_adds),
        exit_share=tuple(map(between, below.exit_share, above.exit_share)),
    )


def choose_operating_point(
    points: Sequence[OperatingPoint], tolerance: float = 0.005
) -> OperatingPoint:
    """The cheapest point whose accuracy is within ``tolerance`` of the best."""
    enough = max(point.accuracy for point in points) - tolerance
    return min(
        (point for point in points if point.accuracy >= enough),
        key=lambda point: point.multiply_adds,
    )


def operating_point(
    record: Record,
    step_costs: Sequence[int] | npt.NDArray[np.number],
    thresholds: Sequence[float],
) -> OperatingPoint:
    """What thresholds give on images of which every step is known."""
    exits = exit_steps(record.confidence, thresholds)
    share = np.bincount(exits, minlength=len(thresholds)) / len(exits)
    return OperatingPoint(
        thresholds=tuple(thresholds),
        accuracy=float(record.correct_at(exits).mean()),
        multiply_adds=float(np.asarray(step_costs, dtype=np.float64)[exits].mean()),
        exit_share=tuple(share.tolist()),
    )


def _thresholds_between(
    below: OperatingPoint, above: OperatingPoint, weight: float
) -> tuple[float, ...]:
    """Thresholds on the way from one point, at weight 0, to another, at weight 1."""
    return tuple(
        # Nothing is between a confidence and NEVER but what lies below certainty.
        one if one == other else (1 - weight) * min(one, 1.0) + weight * min(other, 1.0)
        for one, other in zip(below.thresholds, above.thresholds, strict=True)
    )


def _between_neighbours(
    record: Record, costs: npt.NDArray[np.float64], points: Sequence[OperatingPoint]
) -> Iterator[OperatingPoint]:
    """Points on the way between neighbours whose costs lie further apart than a table's may."""
    for below, above in pairwise(points):
        gaps = math.log(above.multiply_adds / below.multiply_adds) / math.log(_SPACING)
        for weight in np.linspace(0, 1, math.ceil(gaps) + 1)[1:-1]:
            yield operating_point(record, costs, _thresholds_between(below, above, weight))


def _geometric_grid(costs: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    # Rounding must not carry the ends out of what can be had.
    return np.geomspace(costs[0], costs[-1], count).clip(costs[0], costs[-1])


def _unbeaten(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """The points than which no cheaper one is as accurate, by rising cost."""
    kept: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (point.multiply_adds, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept
