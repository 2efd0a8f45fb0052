"""Accuracy against multiply-adds: anytime, budgeted, and static networks beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.report import plot_curves, print_curves, write_csv
from gfnet_env.benchmarks.results import (
    BudgetPoint,
    Comparison,
    CurvePoint,
    EqualAccuracy,
    Evaluation,
    Interval,
    Margin,
    StaticRow,
    StepAccuracy,
    interval_of,
    rounded,
)
from gfnet_env.benchmarks.statistics import expected_calibration_error
from gfnet_env.evaluation import evaluate_policy, evaluate_static
from gfnet_env.files import weights_digests, write_json
from gfnet_env.images import ImageSet, Subset
from gfnet_env.inference import (
    BudgetTable,
    EarlyExitGFNet,
    Method,
    exit_costs,
    exits_of,
    load_official,
    operating_point,
    solve_budgets,
)
from gfnet_env.matching import ImageOptions, check_classes, check_fit, check_split
from gfnet_env.models import Model, StaticNetwork, load_static_networks, static_multiply_adds
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, Flat, Settings

METHODS: tuple[Method, ...] = ("geometric", "searched")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """What to evaluate, on what."""

    run: Path | None = None
    """Run folder of an assembled network."""
    official: Path | None = None
    """Checkpoint of the authors' release (*.pth.tar), in place of a run. Where a folder of images
    has no split test, as ImageNet's, we test on val and solve thresholds on part of train."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    calibration_images: Annotated[int, AtLeast(1)] = 10_000
    """Training images to solve thresholds on where there is no split for it."""
    baseline: Path | None = None
    """Run folder of static baselines to compare with; by default none."""
    out: Path | None = None
    """Folder for the results; by default RUN/evaluation, or beside the checkpoint."""
    budgets: Annotated[int, AtLeast(2)] = 20
    """Budgets, evenly over the range."""
    seed: int = 0
    """Of the bootstrap."""
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
        return EarlyExitGFNet.load(self.run)

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
    """Measure the curves on the test split and write results.json, curves.csv and accuracy.png.

    Thresholds are solved on the ``val`` split. Where a folder for an official checkpoint has no
    split ``test``, we test on ``val`` and solve thresholds on part of ``train``. The network was
    trained on that part, and on our ``val`` of ImageNet, so it is too sure of both, as in the
    authors' own evaluation: mean costs come out above their budgets. Figures come with the bounds
    of a 95% interval over the originals that test images were made from.

    Args:
        config: What to evaluate.
        image_sets: Splits to use (``val``, ``test``) in place of ``config.images``.

    Raises:
        FileExistsError: There are results already, and overwriting was not asked for.
        FileNotFoundError: A folder is missing.
        ValueError: Network, baselines and images do not fit.
    """
    console = Console()
    gfnet = config.load_gfnet().to(resolve_device(config.device))
    baselines = load_static_networks(config.baseline) if config.baseline else []
    names, sets = _splits(config, gfnet.model, baselines, image_sets)
    out = config.results_folder
    check_free(out, overwrite=config.overwrite)
    save_config(out, config)
    with console.status("every step of the calibration and test images"):
        val, test = (
            _Split(gfnet, names[split], sets[split], config.seed) for split in ("val", "test")
        )
    with console.status("static networks"):
        static = [_Static(network.to(gfnet.model.device), sets) for network in baselines]
    results = _results(config, val, test, static)
    write_json(out / "results.json", results.to_json())
    write_csv(results, out / "curves.csv")
    plot_curves(results, out / "accuracy.png")
    print_curves(results, console)
    console.print(f"{out} holds results.json, curves.csv and accuracy.png")
    return results


def check_baselines(baselines: Sequence[StaticNetwork], model: Model, images: ImageSet) -> None:
    """Check that static networks are what a model can be compared with on some images.

    Raises:
        ValueError: Their encoder or their classes are others, or none has the images' resolution.
    """
    own = getattr(getattr(model, "config", None), "encoder", None)
    for static in baselines:
        check_classes(static.config, images)
        if own is not None and static.config.encoder != own:
            raise ValueError(
                f"the baselines have the encoder {static.config.encoder!r}, the network {own!r}; "
                "train baselines of the same"
            )
    side = min(images.fixed_size) if images.fixed_size else None
    if baselines and side is not None and baselines[-1].config.resolution != side:
        raise ValueError(
            f"the images have a resolution of {side}, the best baseline "
            f"{baselines[-1].config.resolution}; train one at {side}"
        )


def least_margin(points: Sequence[CurvePoint], static: Sequence[CurvePoint]) -> Margin | None:
    """By how much accuracy points are above the curve of static networks at the least.

    Args:
        points: Of early exits.
        static: By rising cost; between them the curve is straight in the logarithm of the cost,
            above the dearest it is level.

    Returns:
        None where all points are cheaper than all static networks.
    """
    static_costs = np.log([row.multiply_adds for row in static])
    curve = [row.accuracy for row in static]
    margins = [
        (point.accuracy - np.interp(cost, static_costs, curve), point.multiply_adds)
        for point, cost in ((point, np.log(point.multiply_adds)) for point in points)
        if cost >= static_costs[0]
    ]
    if not margins:
        return None
    margin, cost = min(margins)
    return Margin(rounded(margin), cost)


class _Split:
    """Every step of the images of a split, and what thresholds give on them."""

    def __init__(self, gfnet: EarlyExitGFNet, name: str, images: ImageSet, seed: int) -> None:
        self.name, self.sources, self.seed = name, images.sources, seed
        self.record = evaluate_policy(gfnet.model, gfnet.policy, images)
        self.step_costs = gfnet.multiply_adds
        self.costs = exit_costs(self.record.looks, self.step_costs, gfnet.stop_multiply_adds)

    def interval(self, values: npt.NDArray[np.generic]) -> Interval:
        return interval_of(values, self.sources, self.seed)

    def accuracy(
        self, correct: npt.NDArray[np.bool_], confidence: npt.NDArray[np.float32] | None = None
    ) -> dict[str, Any]:
        """The fields of a ``CurvePoint`` but for its cost."""
        error = None if confidence is None else expected_calibration_error(confidence, correct)
        return {
            "accuracy": rounded(correct.mean()),
            "interval": self.interval(correct),
            "calibration_error": None if error is None else rounded(error),
        }

    def step(self, number: int) -> StepAccuracy:
        correct, confidence = self.record.correct[:, number], self.record.confidence[:, number]
        cost = float(self.costs[:, number].mean())
        return StepAccuracy(step=number, multiply_adds=cost, **self.accuracy(correct, confidence))

    def thresholds(self, thresholds: tuple[float, ...]) -> dict[str, Any]:
        """The fields of a ``ThresholdPoint``."""
        exits = exits_of(self.record, thresholds)
        point = operating_point(self.record, self.costs, thresholds)
        return {
            "multiply_adds": point.multiply_adds,
            **self.accuracy(self.record.correct_at(exits), self.record.confidence_at(exits)),
            "exit_share": tuple(map(rounded, point.exit_share)),
            "thresholds": thresholds,
        }

    def budgets(self, table: BudgetTable, count: int) -> tuple[BudgetPoint, ...]:
        """What budgets of a table, evenly over the range, give here."""
        return tuple(
            BudgetPoint(budget=budget, **self.thresholds(table.within(budget).thresholds))
            for budget in np.linspace(self.step_costs[0], self.step_costs[-1], count).tolist()
        )


class _Static:
    """Whether a static network is right about the images of both splits."""

    def __init__(self, network: StaticNetwork, sets: Mapping[str, ImageSet]) -> None:
        self.network = network
        self.val, self.test = (evaluate_static(network, sets[split]) for split in ("val", "test"))

    @cached_property
    def multiply_adds(self) -> int:
        return static_multiply_adds(self.network)


def _results(
    config: EvaluationConfig, val: _Split, test: _Split, static: Sequence[_Static]
) -> Evaluation:
    tables = {method: solve_budgets(val.record, val.costs, method) for method in METHODS}
    budgeted: dict[str, tuple[BudgetPoint, ...]] = {
        method: test.budgets(table, config.budgets) for method, table in tables.items()
    }
    rows: tuple[StaticRow, ...] | None = None
    comparison: dict[str, Comparison] | None = None
    if config.baseline is not None:
        rows = tuple(_static_row(each, test, config.baseline) for each in static)
        comparison = {
            method: _compared(table, val, test, static[-1], least_margin(budgeted[method], rows))
            for method, table in tables.items()
        }
    return Evaluation(
        weights=weights_digests(config.run) if config.run else None,
        split=test.name,
        images=len(test.record.indices),
        calibration_split=val.name,
        calibration_images=len(val.record.indices),
        anytime=tuple(test.step(number) for number in range(len(test.step_costs))),
        budgeted=budgeted,
        static=rows,
        comparison=comparison,
    )


def _static_row(static: _Static, test: _Split, baseline: Path) -> StaticRow:
    resolution = static.network.config.resolution
    return StaticRow(
        resolution=resolution,
        weights=weights_digests(baseline / str(resolution)),
        multiply_adds=static.multiply_adds,
        **test.accuracy(static.test),
    )


def _compared(
    table: BudgetTable, val: _Split, test: _Split, full: _Static, margin: Margin | None
) -> Comparison:
    """The cheapest budgets that are as accurate as the static network of full resolution.

    They are chosen on the calibration split, by its accuracy or the lower bound of its interval
    there, so that what they give on the test split was not picked for it.
    """

    def equal(accuracy: float) -> EqualAccuracy | None:
        enough = [point for point in table.points if point.accuracy >= accuracy]
        if not enough:
            return None
        found = test.thresholds(enough[0].thresholds)
        exits = exits_of(test.record, enough[0].thresholds)
        difference = test.record.correct_at(exits).astype(int) - full.test
        return EqualAccuracy(
            **found,
            factor=round(full.multiply_adds / found["multiply_adds"], 3),
            difference=rounded(difference.mean()),
            difference_interval=test.interval(difference),
        )

    return Comparison(equal(float(full.val.mean())), equal(val.interval(full.val)[0]), margin)


def _splits(
    config: EvaluationConfig,
    model: Model,
    baselines: Sequence[StaticNetwork],
    image_sets: Mapping[str, ImageSet] | None,
) -> tuple[Mapping[str, str], Mapping[str, ImageSet]]:
    """The images to calibrate (``val``) and to test on, checked, and which splits they are."""
    names: dict[str, str] = {"val": "val", "test": "test"}
    if image_sets is None:
        names, sets = _open_splits(config, model)
        for each in baselines:
            check_split(each.trained_on, *config.images.chosen(model))
    else:
        sets = dict(image_sets)
    for images in sets.values():
        check_fit(model, images)
    check_baselines(baselines, model, sets["test"])
    return names, sets


def _open_splits(
    config: EvaluationConfig, model: Model
) -> tuple[dict[str, str], dict[str, ImageSet]]:
    kind, _, folder = (config.images.images or model.trained_on.images or "").partition(":")
    opened = {"val": "val", "test": "test"}
    has = {split: kind == "folder" and Path(folder, split).is_dir() for split in ("train", "test")}
    if config.official and has["train"] and not has["test"]:
        opened = {"val": "train", "test": "val"}
    sets = {split: config.images.open(model, name) for split, name in opened.items()}
    # The authors' networks were trained on all that is published for it, our val of it included.
    if config.official and (kind == "imagenet" or opened["val"] == "train"):
        order = np.random.default_rng(config.seed).permutation(len(sets["val"]))
        sets["val"] = Subset(sets["val"], order[: config.calibration_images])
        opened["val"] = "train"
    return opened, sets
