"""Budgets: thresholds for a mean cost, and the accuracy under them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch

from gfnet_env.evaluation import Record
from gfnet_env.exits.thresholds import (
    NEVER,
    exit_steps,
    shares_for_cost,
    thresholds_for_price,
    thresholds_for_shares,
)
from gfnet_env.settings import AtLeast, Settings, checked

Method = Literal["geometric", "searched", "uniform"]

# Ratio of neighbouring budgets in a table; budgets between them are interpolated.
_SPACING = 1.02
_PRICES = 200

Point = TypeVar("Point")

_Costs = npt.NDArray[np.integer]


@dataclass(frozen=True)
class OperatingPoint(Settings):
    """The results of thresholds on some images.

    Attributes:
        thresholds: One per step, T of them.
        accuracy: Share of correct images.
        multiply_adds: Mean multiply-adds per image.
        exit_share: Share of the images that exit at each step, T of them.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    multiply_adds: float
    exit_share: tuple[float, ...]


@dataclass(frozen=True)
class LatencyTable:
    """Measured milliseconds per image for an exit at each step, T numbers, on a device."""

    milliseconds: tuple[float, ...]
    device: torch.device


@dataclass(frozen=True)
class BudgetTable:
    """Thresholds for mean costs over the whole range.

    Attributes:
        points: At least one point, by rising cost; the figures were measured on the calibration
            split.
    """

    points: tuple[OperatingPoint, ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a table of budgets needs at least one point; calibrate() makes some")

    def within(self, budget: float) -> OperatingPoint:
        """The point for a mean number of multiply-adds; see ``EarlyExitGFNet.set_budget``.

        Raises:
            ValueError: The cheapest point costs more.
        """
        costs = [point.multiply_adds for point in self.points]
        return self._within(costs, budget, "{:,.0f} multiply-adds")

    def within_time(self, milliseconds: float, latency: LatencyTable) -> OperatingPoint:
        """The point for a mean time, based on the measured times of exits.

        Raises:
            ValueError: The cheapest point takes longer.
        """
        costs = [float(np.dot(each.exit_share, latency.milliseconds)) for each in self.points]
        return self._within(costs, milliseconds, "{:.3f} milliseconds")

    def cheapest(self, tolerance: float = 0.005) -> OperatingPoint:
        """The cheapest point whose accuracy is within ``tolerance`` of the best."""
        tolerance = checked("tolerance", tolerance, Annotated[float, AtLeast(0)])
        enough = max(point.accuracy for point in self.points) - tolerance
        return next(point for point in self.points if point.accuracy >= enough)

    def _within(self, costs: Sequence[float], budget: float, shown: str) -> OperatingPoint:
        """The point of a budget in the unit of ``costs``, interpolated between two points."""
        if not budget >= costs[0]:
            raise ValueError(
                f"no thresholds meet a budget of {shown.format(budget)}: the glance alone costs "
                f"{shown.format(costs[0])}"
            )
        number = max(number for number, cost in enumerate(costs) if cost <= budget)
        if number == len(costs) - 1:
            return self.points[-1]
        weight = (budget - costs[number]) / (costs[number + 1] - costs[number])
        return _between(self.points[number], self.points[number + 1], weight)


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """At most ``count`` of some points, evenly spaced, with both ends."""
    numbers = np.linspace(0, len(points) - 1, min(count, len(points))).round().astype(int)
    return [points[number] for number in numbers]


def exit_costs(
    looks: npt.NDArray[np.int64], step_costs: Sequence[int], stop_cost: int
) -> npt.NDArray[np.int64]:
    """Multiply-adds of each image for an exit at each step, (N, T).

    Args:
        looks: Number of looks at each image before the policy stops, (N,).
        step_costs: Cost of an image that exits at each step, T of them.
        stop_cost: Cost of the decision to stop.
    """
    steps = np.arange(len(step_costs))
    reached = np.minimum(steps, looks[:, None])
    return np.asarray(step_costs)[reached] + stop_cost * (steps > looks[:, None])


def exits_of(record: Record, thresholds: Sequence[float]) -> npt.NDArray[np.int64]:
    """The step at which each recorded image exits, (N,), by thresholds or when the policy stops."""
    return np.minimum(exit_steps(record.signal, thresholds), record.looks)


def solve_budgets(record: Record, costs: _Costs, method: Method = "geometric") -> BudgetTable:
    """Solve thresholds for mean costs from the cost of the first step to the cost of all steps.

    Args:
        record: Every step of the images of a calibration split, with their certainty as the signal.
        costs: Multiply-adds of each image for an exit at each step, (N, T), see ``exit_costs``.
        method: ``geometric`` takes exit shares q_t ∝ ratio^t (GFNet, section 4.1), from all at the
            glance to all at the last step. ``searched`` searches for the most accurate thresholds
            at each cost and keeps those that no cheaper thresholds match; this is more accurate if
            the calibration split is large. Its costs end where spending more gains nothing on that
            split, so it may spend less than a budget. ``uniform`` takes one threshold for all
            steps, the right one for an expected gain: an image exits where the gain is below the
            price of a look.

    Raises:
        ValueError: The method is unknown.
    """
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}: {' or '.join(get_args(Method))}")
    if method == "uniform":
        return BudgetTable(tuple(_uniform(record, costs)))
    means = costs.mean(axis=0)
    count = 1 + math.ceil(math.log(means[-1] / means[0]) / math.log(_SPACING))
    # Rounding must not carry the ends out of the range.
    budgets = np.geomspace(means[0], means[-1], count).clip(means[0], means[-1])
    points = [
        operating_point(record, costs, thresholds_for_shares(record.signal, shares))
        for shares in shares_for_cost(budgets, means)
    ]
    if method == "searched":
        points = _unbeaten([*points, *_searched(record, costs, means)])
        points = _unbeaten([*points, *_between_neighbours(record, costs, points)])
    return BudgetTable(tuple(sorted(points, key=lambda point: point.multiply_adds)))


def operating_point(record: Record, costs: _Costs, thresholds: Sequence[float]) -> OperatingPoint:
    """The results of thresholds on recorded images with costs (N, T), see ``exit_costs``."""
    exits = exits_of(record, thresholds)
    share = np.bincount(exits, minlength=len(thresholds)) / len(exits)
    spent = np.take_along_axis(costs, exit_steps(record.signal, thresholds)[:, None], axis=1)
    return OperatingPoint(
        thresholds=tuple(thresholds),
        accuracy=float(record.correct_at(exits).mean()),
        multiply_adds=float(spent.mean(dtype=np.float64)),
        exit_share=tuple(share.tolist()),
    )


def _uniform(record: Record, costs: _Costs) -> list[OperatingPoint]:
    """The points of one threshold for all steps, from none to all, by rising cost."""
    certainties = np.unique(record.signal[:, :-1]).astype(np.float64)
    # Half-way between two: rounding must not decide who exits.
    middles = (certainties[1:] + certainties[:-1]) / 2
    apart = np.unique(np.linspace(0, max(0, len(middles) - 1), _PRICES).astype(int))
    candidates = [0.0, *middles[apart[: len(middles)]].tolist(), NEVER]
    points = [
        operating_point(record, costs, [*[each] * (record.signal.shape[1] - 1), 0.0])
        for each in candidates
    ]
    by_cost = {point.multiply_adds: point for point in points}
    return [by_cost[cost] for cost in sorted(by_cost)]


def _searched(
    record: Record, costs: _Costs, means: npt.NDArray[np.float64]
) -> Iterator[OperatingPoint]:
    """The most accurate points at prices from zero to more than any accuracy is worth."""
    span = max(float(means[-1] - means[0]), 1.0)
    for price in (0.0, *(np.geomspace(1e-4, 10, _PRICES) / span)):
        thresholds = thresholds_for_price(record.signal, record.correct, costs, price)
        yield operating_point(record, costs, thresholds)


def _between(below: OperatingPoint, above: OperatingPoint, weight: float) -> OperatingPoint:
    """The point between two (weight 0 is the first), with all figures interpolated."""

    def between(one: float, other: float) -> float:
        return (1 - weight) * one + weight * other

    return OperatingPoint(
        thresholds=_thresholds_between(below, above, weight),
        accuracy=between(below.accuracy, above.accuracy),
        multiply_adds=between(below.multiply_adds, above.multiply_adds),
        exit_share=tuple(map(between, below.exit_share, above.exit_share)),
    )


def _thresholds_between(
    below: OperatingPoint, above: OperatingPoint, weight: float
) -> tuple[float, ...]:
    """Thresholds between those of one point (weight 0) and of another (weight 1)."""
    return tuple(
        # NEVER is not a confidence: between it and a confidence, thresholds end at certainty.
        one if one == other else (1 - weight) * min(one, 1.0) + weight * min(other, 1.0)
        for one, other in zip(below.thresholds, above.thresholds, strict=True)
    )


def _between_neighbours(
    record: Record, costs: _Costs, points: Sequence[OperatingPoint]
) -> Iterator[OperatingPoint]:
    """Points between neighbours whose costs are further apart than a table's spacing."""
    for below, above in pairwise(points):
        gaps = math.log(above.multiply_adds / below.multiply_adds) / math.log(_SPACING)
        for weight in np.linspace(0, 1, math.ceil(gaps) + 1)[1:-1]:
            yield operating_point(record, costs, _thresholds_between(below, above, weight))


def _unbeaten(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """The points that no cheaper one matches in accuracy, by rising cost."""
    kept: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (point.multiply_adds, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept
