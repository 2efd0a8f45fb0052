"""Results: dataclasses that JSON holds by the names of their fields."""

import dataclasses
import statistics
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gfnet_env import settings
from gfnet_env.benchmarks.statistics import mean_interval
from gfnet_env.inference import OperatingPoint

Interval = tuple[float, float]


class Result:
    """Base of dataclasses of results. Fields that are None, not known, are left out of JSON."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as JSON has them."""

        def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
            return {name: value for name, value in fields if value is not None}

        values = dataclasses.asdict(typing.cast("Any", self), dict_factory=known)
        return typing.cast("dict[str, Any]", settings.to_json(values))

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The result that ``to_json`` described; keys that are no fields are ignored.

        Raises:
            ValueError: A field is missing.
        """
        hints = typing.get_type_hints(cls)
        known = {name: hint for name, hint in hints.items() if name in saved}
        try:
            return cls(**{name: _from_json(saved[name], hint) for name, hint in known.items()})
        except TypeError as error:
            raise ValueError(f"these are no results of this version: {error}") from error


@dataclass(frozen=True)
class Difference(Result):
    """A mean difference on the same images, with its paired 95% interval."""

    difference: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class CurvePoint(Result):
    """Accuracy at a mean cost, with its 95% interval; see ``expected_calibration_error``."""

    multiply_adds: float
    accuracy: float
    interval: Interval
    calibration_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepAccuracy(CurvePoint):
    """Accuracy where all images exit at one step, glance first."""

    step: int


@dataclass(frozen=True, kw_only=True)
class ThresholdPoint(CurvePoint):
    """Accuracy under T thresholds, and the share of the images that exit at each step."""

    exit_share: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class BudgetPoint(ThresholdPoint):
    """Accuracy under the thresholds of a budget, in multiply-adds."""

    budget: float


@dataclass(frozen=True, kw_only=True)
class EqualAccuracy(ThresholdPoint):
    """The cheapest thresholds that match the static network of full resolution.

    They are ``factor`` times cheaper; ``difference`` is their accuracy less that of the static
    network, with its paired 95% interval.
    """

    factor: float
    difference: float
    difference_interval: Interval


@dataclass(frozen=True, kw_only=True)
class StaticRow(CurvePoint):
    """Accuracy of a static network; ``weights`` are digests of its files."""

    resolution: int
    weights: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Margin(Result):
    """Accuracy above a curve of static networks, negative below it, and the cost where that is."""

    accuracy: float
    multiply_adds: float


@dataclass(frozen=True)
class Comparison(Result):
    """Early exits against static networks.

    Attributes:
        at_accuracy: As accurate on the calibration split as the static network of full resolution;
            None where no thresholds are.
        within_interval: Likewise within the interval of its accuracy.
        least_margin: See ``least_margin``.
    """

    at_accuracy: EqualAccuracy | None = None
    within_interval: EqualAccuracy | None = None
    least_margin: Margin | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """What ``evaluate`` found.

    Attributes:
        weights: Digests of the network's files; None of an official checkpoint.
        split: Which was tested on.
        images: How many it has.
        calibration_split: Which thresholds were solved on.
        calibration_images: How many of its images.
        anytime: Accuracy per step.
        budgeted: Accuracy per budget, by method.
        static: Static networks by rising cost; None without them.
        comparison: Early exits against them, by method.
        policies: What came out under its own policy, ``learned``, and under ``random`` looks.
    """

    weights: Mapping[str, str] | None = None
    split: str
    images: int
    calibration_split: str
    calibration_images: int
    anytime: tuple[StepAccuracy, ...]
    budgeted: Mapping[str, tuple[BudgetPoint, ...]]
    static: tuple[StaticRow, ...] | None = None
    comparison: Mapping[str, Comparison] | None = None
    policies: Mapping[str, "PolicyResult"] | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyResult(Result):
    """What came out under one policy, with 95% intervals.

    Attributes:
        images: How many it was run on.
        looks: Mean number of looks taken.
        accuracy: Share of correct images per step, glance first, (T,).
        label_confidence: Mean probability of the true class per step, (T,).
        share_of_gain: Gain in accuracy over the glance per look, as a share of what the reference
            policy gains on the same images; None where the interval of that reaches zero.
        over_random: Accuracy after the last step less that of random looks.
        over_glance: Accuracy after the last step less that of the glance.
        windows: Mean number of windows that were encoded, see ``Record``.
        object_images: How many images show an object.
        centred: Mean per look, see ``Overlap``; None where no look was taken.
        covered: Mean per look, see ``Overlap``.
    """

    images: int
    looks: float
    accuracy: tuple[float, ...]
    accuracy_interval: tuple[Interval, ...]
    label_confidence: tuple[float, ...]
    label_confidence_interval: tuple[Interval, ...]
    share_of_gain: tuple[float | None, ...] | None = None
    over_random: Difference | None = None
    over_glance: Difference | None = None
    windows: float | None = None
    object_images: int | None = None
    centred: tuple[float | None, ...] | None = None
    covered: tuple[float, ...] | None = None


@dataclass(frozen=True)
class PolicyComparison(Result):
    """What ``compare_policies`` found.

    Attributes:
        split: Which was tested on.
        images: How many it has.
        policies: By name.
        reference: The policy whose gain the others' are shares of: ``target``, or else ``oracle``.
        objects: What says where the objects are: ``boxes`` or ``masks``.
    """

    split: str
    images: int
    policies: Mapping[str, PolicyResult]
    reference: str | None = None
    objects: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyResults(PolicyComparison):
    """What a run of ``train_policy`` found on the test split.

    Attributes:
        environment_steps: Looks that were learned from.
        seconds: Of the whole run.
        multiply_adds: Of one image that exits at each step, T numbers.
        early_exit: What thresholds for some budgets give.
    """

    environment_steps: int
    seconds: float
    multiply_adds: tuple[int, ...]
    early_exit: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class Spread(Result):
    """Times, rates or ratios of such over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of some values."""
        figures = (statistics.median(values), min(values), max(values))
        return Spread(*(round(each, 4) for each in figures))


@dataclass(frozen=True)
class PointTime(Spread):
    """Milliseconds per image at one point, and how many times faster than the static network."""

    speedup: Spread


@dataclass(frozen=True)
class TimedPoint(Result):
    """An evaluated point that is timed, and the mean cost of the images it is timed with."""

    name: str
    multiply_adds: float
    accuracy: float
    thresholds: tuple[float, ...]
    multiply_adds_of_timed: float


@dataclass(frozen=True)
class Timing(Result):
    """Times with one engine, number of threads and batch size: one for each timed point."""

    engine: str
    threads: int
    batch_size: int
    static: Spread
    points: tuple[PointTime, ...]


@dataclass(frozen=True)
class Latency(Result):
    """What ``measure_latency`` found; ``resolution`` is that of the static network."""

    images: int
    repeats: int
    resolution: int
    static_accuracy: float
    points: tuple[TimedPoint, ...]
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class ProcessMemory(Result):
    """Resident MiB of a process before it saw an image and at the peak; or why it failed."""

    idle: float | None = None
    peak: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class MemoryRow(Result):
    """Memory at one resolution; ``image`` is the size of the decoded image in MiB."""

    resolution: int
    image: float
    gfnet: ProcessMemory
    static: ProcessMemory | None = None


@dataclass(frozen=True)
class Memory(Result):
    """What ``measure_memory`` found; ``variation`` is the highest peak over the lowest, less 1."""

    rows: tuple[MemoryRow, ...]
    provenance: Mapping[str, Any]
    variation: float | None = None


def rounded(value: float) -> float:
    """A figure as results hold it."""
    return round(float(value), 6)


def interval_of(
    values: npt.NDArray[np.generic], sources: npt.NDArray[np.int64] | None, seed: int
) -> Interval:
    """``mean_interval`` as results hold it."""
    low, high = mean_interval(values, sources, seed=seed)
    return rounded(low), rounded(high)


def _from_json(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (hint,) = (each for each in arguments if each is not type(None))
        return None if value is None else _from_json(value, hint)
    if origin is tuple:
        return tuple(_from_json(each, arguments[0]) for each in value)
    if origin is not None and issubclass(origin, Mapping):
        return {name: _from_json(each, arguments[1]) for name, each in value.items()}
    return hint.from_json(value) if hasattr(hint, "from_json") else value
