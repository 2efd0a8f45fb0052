"""Results: dataclasses that are saved as JSON under the names of their fields."""

import dataclasses
import statistics
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gfnet_env import settings
from gfnet_env.benchmarks.statistics import mean_interval
from gfnet_env.contracts import explained
from gfnet_env.files import read_json
from gfnet_env.inference import OperatingPoint
from gfnet_env.settings import checked

Interval = tuple[float, float]


class Result:
    """Base of dataclasses of results. Fields that are None (unknown) are left out of JSON."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as JSON has them."""

        def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
            return {name: value for name, value in fields if value is not None}

        values = dataclasses.asdict(typing.cast("Any", self), dict_factory=known)
        return typing.cast("dict[str, Any]", settings.to_json(values))

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The result that ``to_json`` described; keys that are not fields are ignored.

        Raises:
            ValueError: A field is missing, or has another type.
        """
        saved = checked(cls.__name__, saved, dict)
        hints = typing.get_type_hints(cls)
        known = {name: hint for name, hint in hints.items() if name in saved}
        values = {name: _from_json(name, saved[name], hint) for name, hint in known.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"these are not results of this version: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """The result whose JSON a file holds.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        saved = read_json(path)
        with explained(f"{path} is damaged or of another version", "; make it anew"):
            return cls.from_json(saved)


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
    """Accuracy if all images exit at one step."""

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

    They are ``factor`` times cheaper. ``difference`` is their accuracy minus the static network's,
    with its paired 95% interval.
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
    """Accuracy above a curve of static networks (negative if below), and the cost at that point."""

    accuracy: float
    multiply_adds: float


@dataclass(frozen=True)
class Comparison(Result):
    """Early exits against static networks.

    Attributes:
        at_accuracy: Thresholds that are as accurate on the calibration split as the static network
            of full resolution; None if there are none.
        within_interval: Thresholds that are within the interval of that network's accuracy; None if
            there are none.
        least_margin: See ``least_margin``.
    """

    at_accuracy: EqualAccuracy | None = None
    within_interval: EqualAccuracy | None = None
    least_margin: Margin | None = None


@dataclass(frozen=True, kw_only=True)
class ClassResult(Result):
    """Results of one class after all looks; what cannot be computed is None.

    Attributes:
        name: Name of the class.
        images: Number of its images.
        precision: Share of its images among those that are taken for it.
        recall: Share of its images that are taken for it.
        f1: Harmonic mean of both.
        auc: Area under the ROC curve of its probability, against all other classes.
    """

    name: str
    images: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auc: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """What ``evaluate`` found.

    Attributes:
        weights: Digests of the network's files; None for an official checkpoint.
        split: The split that was tested on.
        images: Number of its images.
        calibration_split: The split that thresholds were solved on.
        calibration_images: Number of its images.
        anytime: Accuracy per step.
        budgeted: Accuracy per budget, by method.
        static: Static networks by rising cost; None without them.
        comparison: Comparison of early exits with the static networks, by method.
        policies: Results of its own policy, ``learned``, and of ``random`` looks.
        classes: Results of every class.
        confusion: Number of images of each class (row) that are taken for each (column), (K, K).
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
    classes: tuple[ClassResult, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyResult(Result):
    """Results of one policy, with 95% intervals.

    Attributes:
        images: Number of images that it was run on.
        looks: Mean number of looks taken.
        accuracy: Share of correct images per step, glance first, (T,).
        label_confidence: Mean probability of the true class per step, (T,).
        share_of_gain: Gain in accuracy over the glance per look, as a share of the reference
            policy's gain on the same images; None if the interval of that gain reaches zero.
        over_random: Accuracy after the last step minus the accuracy of random looks.
        over_glance: Accuracy after the last step minus the accuracy of the glance.
        windows: Mean number of windows encoded per image, see ``Record``.
        object_images: Number of images that show an object.
        centred: Mean per look, see ``Overlap``; None if no look was taken.
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
        split: The split that was tested on.
        images: Number of its images.
        policies: Results by name.
        reference: The policy that ``share_of_gain`` refers to: ``target``, or else ``oracle``.
        objects: Source of the objects' places: ``boxes`` or ``masks``.
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
        environment_steps: Number of looks that the policy learned from.
        seconds: Duration of the whole run.
        multiply_adds: Multiply-adds of one image that exits at each step, T numbers.
        early_exit: Operating points of some budgets.
    """

    environment_steps: int
    seconds: float
    multiply_adds: tuple[int, ...]
    early_exit: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class Spread(Result):
    """Median, minimum and maximum of a time, a rate or a ratio over the rounds."""

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
    """Milliseconds per image at one point, and the speed-up over the static network."""

    speedup: Spread


@dataclass(frozen=True)
class TimedPoint(Result):
    """An evaluated point that is timed, and the mean cost of the images that are timed."""

    name: str
    multiply_adds: float
    accuracy: float
    thresholds: tuple[float, ...]
    multiply_adds_of_timed: float


@dataclass(frozen=True)
class Timing(Result):
    """Times of every point with one engine, number of threads and batch size.

    ``scan`` is the time to encode all windows, where the network can and in torch.
    """

    engine: str
    threads: int
    batch_size: int
    static: Spread
    points: tuple[PointTime, ...]
    scan: Spread | None = None


@dataclass(frozen=True)
class Latency(Result):
    """What ``measure_latency`` found; ``resolution`` is the static network's."""

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
    """A number, rounded as in all results."""
    return round(float(value), 6)


def interval_of(
    values: npt.NDArray[np.generic], sources: npt.NDArray[np.int64] | None, seed: int
) -> Interval:
    """``mean_interval``, rounded as in all results."""
    low, high = mean_interval(values, sources, seed=seed)
    return rounded(low), rounded(high)


def _from_json(name: str, value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (hint,) = (each for each in arguments if each is not type(None))
        return None if value is None else _from_json(name, value, hint)
    if origin is tuple and arguments[-1] is ...:
        return tuple(_from_json(name, each, arguments[0]) for each in checked(name, value, list))
    if origin is not None and issubclass(origin, Mapping):
        values = checked(name, value, dict)
        return {
            key: _from_json(f"{name}.{key}", each, arguments[1]) for key, each in values.items()
        }
    return hint.from_json(value) if hasattr(hint, "from_json") else checked(name, value, hint)
