"""Accuracy against multiply-adds: anytime and budgeted exits, compared with static networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from gfnet_env.benchmarks.curves_report import plot_curves, print_curves, write_csv
from gfnet_env.benchmarks.per_class import class_results, plot_confusion, print_classes
from gfnet_env.benchmarks.policies import compare_records
from gfnet_env.benchmarks.results import (
    BudgetPoint,
    ClassResult,
    Comparison,
    CurvePoint,
    EqualAccuracy,
    Evaluation,
    Interval,
    Margin,
    PolicyResult,
    StaticRow,
    StepAccuracy,
    ThresholdPoint,
    interval_of,
    rounded,
)
from gfnet_env.benchmarks.statistics import expected_calibration_error
from gfnet_env.console import PlainConsole
from gfnet_env.evaluation import evaluate_policy, evaluate_static
from gfnet_env.files import replacing, weights_digests, write_json
from gfnet_env.images import ImageSet, Subset, check_splits
from gfnet_env.inference import (
    BudgetTable,
    EarlyExitGFNet,
    Method,
    assembled_in,
    exit_costs,
    exits_of,
    load_official,
    operating_point,
    solve_budgets,
)
from gfnet_env.matching import ImageOptions, check_classes, check_fit, check_split
from gfnet_env.models import Model, StaticNetwork, load_static_networks, static_multiply_adds
from gfnet_env.planning import Plan, plan_passes
from gfnet_env.policies import RandomPolicy
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, Flat, Seed, Settings

# Ways to solve thresholds; ``compare_exits`` has them all.
_METHODS: tuple[Method, ...] = ("geometric", "searched")

# Images by their purpose (val to calibrate, test), and the name of the split that they come from.
_Splits = Mapping[str, tuple[str, ImageSet]]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """What to evaluate, and on which images."""

    run: Path | None = None
    """Run folder of an assembled network, or of all stages."""
    official: Path | None = None
    """Checkpoint of the authors' release (*.pth.tar), in place of a run. If a folder of images has
    no split test, as with ImageNet, we test on val and solve thresholds on part of train."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    calibration_images: Annotated[int, AtLeast(1)] = 10_000
    """Training images to solve thresholds on if there is no split for them."""
    baseline: Path | None = None
    """Run folder of static baselines to compare with; by default none."""
    out: Path | None = None
    """Folder for the results; by default RUN/evaluation, or beside the checkpoint."""
    budgets: Annotated[int, AtLeast(2)] = 20
    """Number of budgets, spread evenly over the range."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.run is None) == (self.official is None):
            raise ValueError("give either a run or an official checkpoint")

    def load_gfnet(self) -> EarlyExitGFNet:
        """The network to evaluate."""
        if self.official is not None:
            return load_official(self.official)
        assert self.run is not None
        return EarlyExitGFNet.load(assembled_in(self.run))

    @property
    def results_folder(self) -> Path:
        """Where the results go."""
        if self.out is not None:
            return self.out
        if self.official is not None:
            name = self.official.name.removesuffix(".tar").removesuffix(".pth")
            return self.official.with_name(f"{name}-evaluation")
        assert self.run is not None
        return self.run / "evaluation"


def evaluate(
    config: EvaluationConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> Evaluation:
    """Measure curves and classes on the test split; write results.json, curves.csv and pictures.

    Thresholds are solved on the split ``val``. An official checkpoint was trained on the images
    that stand in for this split: part of ``train``, or our ``val`` of ImageNet. It is overconfident
    on them, as in the authors' own evaluation, so mean costs exceed their budgets.

    Args:
        config: What to evaluate.
        image_sets: Splits to use (``val``, ``test``) in place of ``config.images``.

    Raises:
        FileExistsError: Results exist already, and ``overwrite`` is off.
        FileNotFoundError: A folder is missing.
        ValueError: The network, the baselines and the images do not fit together.
    """
    console = PlainConsole()
    gfnet = config.load_gfnet().to(resolve_device(config.device))
    out = config.results_folder
    check_free(out, overwrite=config.overwrite)
    baselines = load_static_networks(config.baseline) if config.baseline else []
    splits = _open(config, gfnet.model, baselines, image_sets)
    with replacing(out) as new:
        save_config(new, config)
        with console.status("every step of the calibration and test images"):
            val, test = (_Split(gfnet, *splits[name], config.seed) for name in ("val", "test"))
        static = []
        for network in baselines:
            side = network.config.resolution
            with console.status(f"the static network of {side}×{side} pixels"):
                static.append(_Static(network.to(gfnet.model.device), splits))
        results = _results(config, val, test, static)
        write_json(new / "results.json", results.to_json())
        write_csv(results, new / "curves.csv")
        plot_curves(results, new / "accuracy.png")
        assert results.classes is not None
        assert results.confusion is not None
        plot_confusion(results.classes, results.confusion, new / "confusion.png")
    print_classes(results.classes, console)
    print_curves(results, gfnet.model, console)
    console.print(f"{out} holds results.json, curves.csv, accuracy.png and confusion.png")
    return results


def plan_evaluate(config: EvaluationConfig) -> Plan:
    """What ``evaluate`` would do and cost."""
    gfnet = config.load_gfnet().to(resolve_device(config.device))
    check_free(config.results_folder, overwrite=config.overwrite)
    baselines = load_static_networks(config.baseline) if config.baseline else []
    splits = _open(config, gfnet.model, baselines, None)
    sets = {name: images for name, (_, images) in splits.items()}
    # The test images also under random looks.
    plan = plan_passes(config, gfnet, sets, {"val": 1, "test": 2})
    static = f"{len(baselines)} networks, which the time leaves out"
    return replace(plan, figures={**plan.figures, **({"static": static} if baselines else {})})


def least_margin(points: Sequence[CurvePoint], static: Sequence[CurvePoint]) -> Margin | None:
    """The smallest margin in accuracy of early exits over static networks at the same cost.

    Args:
        points: Points of early exits.
        static: Points of static networks, by rising cost. Between them the curve is linear in the
            logarithm of the cost; beyond the last point it is flat.

    Returns:
        The margin, or None if every point is cheaper than every static network.
    """
    costs = np.log([row.multiply_adds for row in static])
    curve = [row.accuracy for row in static]
    margins = [
        (point.accuracy - np.interp(cost, costs, curve), point.multiply_adds)
        for point in points
        if (cost := np.log(point.multiply_adds)) >= costs[0]
    ]
    if not margins:
        return None
    margin, cost = min(margins)
    return Margin(rounded(margin), cost)


class _Split:
    """Every step of the images of a split, and the results of thresholds on them."""

    def __init__(self, gfnet: EarlyExitGFNet, name: str, images: ImageSet, seed: int) -> None:
        self.name, self.sources, self.seed = name, images.sources, seed
        self._model, self._images = gfnet.model, images
        self.record = evaluate_policy(
            gfnet.model, gfnet.policy, images, signal=gfnet.certainty, keep_probabilities=True
        )
        self.step_costs = gfnet.multiply_adds
        self.costs = exit_costs(self.record.looks, self.step_costs, gfnet.stop_multiply_adds)

    def policies(self) -> dict[str, PolicyResult]:
        """What came out under its policy and under random looks."""
        others = evaluate_policy(self._model, RandomPolicy(), self._images)
        records = {"random": others, "learned": self.record}
        return compare_records(records, None, self.sources, self.seed)

    def classes(self) -> tuple[tuple[ClassResult, ...], tuple[tuple[int, ...], ...]]:
        """Results of every class, and the confusion matrix."""
        assert self.record.probabilities is not None
        labels = self._images.labels[self.record.indices].numpy()
        return class_results(labels, self.record.probabilities, self._model.class_names)

    def interval(self, values: npt.NDArray[np.generic]) -> Interval:
        return interval_of(values, self.sources, self.seed)

    def point(
        self,
        multiply_adds: float,
        correct: npt.NDArray[np.bool_],
        confidence: npt.NDArray[np.float32] | None = None,
    ) -> CurvePoint:
        error = None if confidence is None else expected_calibration_error(confidence, correct)
        return CurvePoint(
            multiply_adds=multiply_adds,
            accuracy=rounded(correct.mean()),
            interval=self.interval(correct),
            calibration_error=None if error is None else rounded(error),
        )

    def step(self, number: int) -> StepAccuracy:
        correct, confidence = self.record.correct[:, number], self.record.confidence[:, number]
        point = self.point(float(self.costs[:, number].mean()), correct, confidence)
        return StepAccuracy(step=number, **vars(point))

    def thresholds(self, thresholds: tuple[float, ...]) -> ThresholdPoint:
        exits = exits_of(self.record, thresholds)
        correct, confidence = self.record.correct_at(exits), self.record.confidence_at(exits)
        spent = operating_point(self.record, self.costs, thresholds)
        return ThresholdPoint(
            **vars(self.point(spent.multiply_adds, correct, confidence)),
            exit_share=tuple(map(rounded, spent.exit_share)),
            thresholds=thresholds,
        )

    def budgets(self, table: BudgetTable, count: int) -> tuple[BudgetPoint, ...]:
        """The results of a table's budgets, spread evenly over the range, on this split."""
        return tuple(
            BudgetPoint(budget=budget, **vars(self.thresholds(table.within(budget).thresholds)))
            for budget in np.linspace(self.step_costs[0], self.step_costs[-1], count).tolist()
        )


class _Static:
    """Whether a static network is right about the images of both splits, and its cost."""

    def __init__(self, network: StaticNetwork, splits: _Splits) -> None:
        self.resolution = network.config.resolution
        self.multiply_adds = static_multiply_adds(network)
        self.val, self.test = (
            evaluate_static(network, splits[name][1]) for name in ("val", "test")
        )

    def row(self, test: _Split, baseline: Path) -> StaticRow:
        weights = weights_digests(baseline / str(self.resolution))
        point = test.point(self.multiply_adds, self.test)
        return StaticRow(resolution=self.resolution, weights=weights, **vars(point))


def _results(
    config: EvaluationConfig, val: _Split, test: _Split, static: Sequence[_Static]
) -> Evaluation:
    methods: tuple[Method, ...] = _METHODS
    tables = {method: solve_budgets(val.record, val.costs, method) for method in methods}
    budgeted: dict[str, tuple[BudgetPoint, ...]] = {
        method: test.budgets(table, config.budgets) for method, table in tables.items()
    }
    rows: tuple[StaticRow, ...] | None = None
    comparison: dict[str, Comparison] | None = None
    if config.baseline is not None:
        rows = tuple(each.row(test, config.baseline) for each in static)
        comparison = {
            method: _compared(table, val, test, static[-1], least_margin(budgeted[method], rows))
            for method, table in tables.items()
        }
    classes, confusion = test.classes()
    return Evaluation(
        weights=weights_digests(assembled_in(config.run)) if config.run else None,
        split=test.name,
        images=len(test.record.indices),
        calibration_split=val.name,
        calibration_images=len(val.record.indices),
        anytime=tuple(map(test.step, range(len(test.step_costs)))),
        budgeted=budgeted,
        static=rows,
        comparison=comparison,
        policies=test.policies(),
        classes=classes,
        confusion=confusion,
    )


def _compared(
    table: BudgetTable, val: _Split, test: _Split, full: _Static, margin: Margin | None
) -> Comparison:
    """The cheapest budgets that are as accurate as the static network of full resolution.

    They are chosen on the calibration split, to reach the static network's accuracy there or the
    lower bound of its interval. So their results on the test split are not selected on that split.
    """

    def equal(accuracy: float) -> EqualAccuracy | None:
        enough = [point for point in table.points if point.accuracy >= accuracy]
        if not enough:
            return None
        found = test.thresholds(enough[0].thresholds)
        exits = exits_of(test.record, found.thresholds)
        difference = test.record.correct_at(exits).astype(int) - full.test
        return EqualAccuracy(
            **vars(found),
            factor=round(full.multiply_adds / found.multiply_adds, 3),
            difference=rounded(difference.mean()),
            difference_interval=test.interval(difference),
        )

    return Comparison(equal(float(full.val.mean())), equal(val.interval(full.val)[0]), margin)


def _open(
    config: EvaluationConfig,
    model: Model,
    baselines: Sequence[StaticNetwork],
    image_sets: Mapping[str, ImageSet] | None,
) -> _Splits:
    """The images, checked to fit the model and the baselines."""
    if image_sets is None:
        splits = _open_splits(config, model)
        for static in baselines:
            check_split(static.trained_on, *config.images.chosen(model))
    else:
        given = check_splits(image_sets, ("val", "test"))
        splits = {name: (name, images) for name, images in given.items()}
    for _, images in splits.values():
        check_fit(model, images)
    _check_baselines(baselines, model, splits["test"][1])
    return splits


def _open_splits(config: EvaluationConfig, model: Model) -> _Splits:
    kind, _, folder = config.images.chosen(model)[0].partition(":")
    val, test = "val", "test"
    if config.official and kind == "folder":
        is_there = {split: Path(folder, split).is_dir() for split in ("train", "test")}
        if is_there["train"] and not is_there["test"]:
            val, test = "train", "val"
    opened = {split: config.images.open(model, split) for split in (val, test)}
    calibration = opened[val]
    # The authors' networks were trained on the whole published training split, including our val.
    if config.official and (kind == "imagenet" or val == "train"):
        order = np.random.default_rng(config.seed).permutation(len(calibration))
        val, calibration = "train", Subset(calibration, order[: config.calibration_images])
    return {"val": (val, calibration), "test": (test, opened[test])}


def _check_baselines(baselines: Sequence[StaticNetwork], model: Model, images: ImageSet) -> None:
    """Raises ``ValueError`` unless static networks can be compared with a model on some images."""
    own = getattr(getattr(model, "config", None), "encoder", None)
    for static in baselines:
        check_classes(static.config, images)
        if own is not None and static.config.encoder != own:
            raise ValueError(
                f"the baselines have the encoder {static.config.encoder!r}, the network {own!r}; "
                "train baselines with the same encoder"
            )
    side = min(images.fixed_size) if images.fixed_size else None
    if baselines and side is not None and baselines[-1].config.resolution != side:
        raise ValueError(
            f"the images have a resolution of {side}, the best baseline "
            f"{baselines[-1].config.resolution}; train one at {side}"
        )
