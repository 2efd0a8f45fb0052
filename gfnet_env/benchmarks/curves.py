"""Accuracy against multiply-adds: anytime, budgeted, and static networks beside them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.report import plot_curves, print_curves, write_csv
from gfnet_env.benchmarks.statistics import expected_calibration_error, mean_interval
from gfnet_env.data import ImageSet, Subset
from gfnet_env.files import weights_digests, write_json
from gfnet_env.inference import (
    EarlyExitGFNet,
    Record,
    evaluate_policy,
    evaluate_static,
    exit_steps,
    load_official,
    operating_point,
    solve_budgets,
)
from gfnet_env.inference.budgets import Method, OperatingPoint, point_within
from gfnet_env.inference.cost import static_multiply_adds
from gfnet_env.matching import ImageOptions, check_classes, check_fit, check_split
from gfnet_env.perception import GlanceFocusNetwork, StaticNetwork, load_static_networks
from gfnet_env.runs import create_run, resolve_device, save_config

METHODS: tuple[Method, ...] = ("geometric", "searched")
_SPLITS: Mapping[str, str] = {"val": "val", "test": "test"}

_Interval = Callable[[npt.NDArray[np.generic]], list[float]]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(ImageOptions):
    """What to evaluate, on what."""

    run: Path | None = None
    """Run folder of an assembled network."""
    official: Path | None = None
    """Checkpoint of the authors' release (*.pth.tar), in place of a run. Images without a split
    test, as ImageNet's folder is, are then tested on val, thresholds solved on some of train."""
    calibration_images: int = 10_000
    """Training images that thresholds are solved on where there is no split for it."""
    baseline: Path | None = None
    """Run folder of static baselines to hold it against; by default none."""
    out: Path | None = None
    """Folder for the results; by default RUN/evaluation, or beside the checkpoint."""
    budgets: int = 20
    """Budgets, evenly over the range."""
    seed: int = 0
    """Of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""

    def __post_init__(self) -> None:
        if self.budgets < 2:
            raise ValueError(f"budgets must be at least 2, not {self.budgets}")
        if self.calibration_images < 1:
            raise ValueError(
                f"calibration_images must be at least 1, not {self.calibration_images}"
            )
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
) -> dict[str, Any]:
    """Measure the curves on the test split and write results.json, curves.csv and accuracy.png.

    Thresholds are solved on the ``val`` split; where a folder for an official checkpoint has no
    split ``test``, ``val`` takes its place and part of ``train`` that of ``val``. The network was
    trained on that part, as on the ``val`` of ImageNet, which is part of what is published for
    training, and is too sure of it, as it was in the authors' own evaluation: mean costs come out
    above their budgets. Figures come with the bounds of a 95% interval over the originals that
    test images were made from.

    Args:
        config: What to evaluate.
        image_sets: Splits to use (``val``, ``test``) in place of ``config.images``.

    Raises:
        FileExistsError: There are results already, and overwriting was not asked for.
        FileNotFoundError: A folder is missing.
        ValueError: Network, baselines and images do not fit.
    """
    console = Console()
    device = resolve_device(config.device)
    gfnet = config.load_gfnet().to(device)
    names, sets = _SPLITS, image_sets
    baselines = load_static_networks(config.baseline) if config.baseline else []
    if sets is None:
        names, sets = _open_splits(config, gfnet.network)
        for each in baselines:
            check_split(each.config.metadata, *config.chosen(gfnet.network))
    for images in sets.values():
        check_fit(gfnet.network, images)
    check_baselines(baselines, gfnet.network, sets["test"])
    out = create_run(config.results_folder, overwrite=config.overwrite)
    save_config(out, config)

    costs = np.array(gfnet.multiply_adds)
    with console.status("every step of the calibration and test images"):
        val = evaluate_policy(gfnet.network, gfnet.policy, sets["val"])
        test = evaluate_policy(gfnet.network, gfnet.policy, sets["test"])
    with console.status("static networks"):
        static = [_static(network.to(device), sets) for network in baselines]
    tables = {method: solve_budgets(val, costs, method) for method in METHODS}
    within = {
        split: partial(_interval, sources=images.sources, seed=config.seed)
        for split, images in sets.items()
    }
    interval = within["test"]
    results: dict[str, Any] = {
        "weights": weights_digests(config.run) if config.run else None,
        "split": names["test"],
        "images": len(sets["test"]),
        "calibration_split": names["val"],
        "calibration_images": len(sets["val"]),
        "anytime": [_anytime(test, costs, step, interval) for step in range(len(costs))],
        "budgeted": {
            method: _budgeted(table, test, costs, config.budgets, interval)
            for method, table in tables.items()
        },
    }
    if config.baseline:
        rows = [_static_row(network, interval, config.baseline) for network in static]
        full, full_cost = static[-1], rows[-1]["multiply_adds"]
        wanted = {
            "at_accuracy": float(full.val.mean()),
            "within_interval": within["val"](full.val)[0],
        }
        results["static"] = rows
        results["comparison"] = {
            method: {
                **_at_equal_accuracy(table, wanted, test, costs, full, full_cost, interval),
                "least_margin": least_margin(results["budgeted"][method], rows),
            }
            for method, table in tables.items()
        }
    write_json(out / "results.json", results)
    write_csv(results, out / "curves.csv")
    plot_curves(results, out / "accuracy.png")
    print_curves(results, console)
    console.print(f"{out} holds results.json, curves.csv and accuracy.png")
    return results


def _open_splits(
    config: EvaluationConfig, network: GlanceFocusNetwork
) -> tuple[Mapping[str, str], dict[str, ImageSet]]:
    """The images to calibrate (``val``) and to test on, and which splits they are."""
    kind, _, folder = (config.images or network.config.metadata.get("images") or "").partition(":")
    opened = dict(_SPLITS)
    has = {split: kind == "folder" and Path(folder, split).is_dir() for split in ("train", "test")}
    if config.official and has["train"] and not has["test"]:
        opened = {"val": "train", "test": "val"}
    sets = {split: config.open(network, name) for split, name in opened.items()}
    # The authors' networks were trained on all that is published for it, our val of it included.
    if config.official and (kind == "imagenet" or opened["val"] == "train"):
        order = np.random.default_rng(config.seed).permutation(len(sets["val"]))
        sets["val"] = Subset(sets["val"], order[: config.calibration_images])
        opened["val"] = "train"
    return opened, sets


def check_baselines(
    baselines: Sequence[StaticNetwork], network: GlanceFocusNetwork, images: ImageSet
) -> None:
    """Check that static networks are what a network is to be held against on some images.

    Raises:
        ValueError: Their encoder or their classes are others, or none has the images' resolution.
    """
    for static in baselines:
        check_classes(static.config, images)
        if static.config.encoder != network.config.encoder:
            raise ValueError(
                f"the baselines have the encoder {static.config.encoder!r}, the network "
                f"{network.config.encoder!r}; train baselines of the same"
            )
    side = min(images[[0]].shape[2:])
    if baselines and baselines[-1].config.resolution != side:
        raise ValueError(
            f"the images have a resolution of {side}, the best baseline "
            f"{baselines[-1].config.resolution}; train one at {side}"
        )


def least_margin(
    points: Sequence[Mapping[str, Any]], static: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    """By how much accuracy budgeted points are above the curve of static networks at the least.

    Args:
        points: With ``multiply_adds`` and ``accuracy`` each.
        static: The same, by rising cost; between them the curve is straight in the logarithm of
            the cost, above the dearest it is level.

    Returns:
        ``accuracy``, negative where a point is below the curve, and the ``multiply_adds`` there;
        None where all points are cheaper than all static networks.
    """
    static_costs = np.log([row["multiply_adds"] for row in static])
    curve = [row["accuracy"] for row in static]
    margins = [
        (point["accuracy"] - np.interp(np.log(cost), static_costs, curve), cost)
        for point, cost in ((point, point["multiply_adds"]) for point in points)
        if np.log(cost) >= static_costs[0]
    ]
    if not margins:
        return None
    margin, cost = min(margins)
    return {"accuracy": round(float(margin), 6), "multiply_adds": cost}


@dataclass(frozen=True)
class _Static:
    """Whether a static network is right about the images of both splits."""

    network: StaticNetwork
    val: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]


def _static(network: StaticNetwork, sets: Mapping[str, ImageSet]) -> _Static:
    return _Static(
        network, evaluate_static(network, sets["val"]), evaluate_static(network, sets["test"])
    )


def _static_row(static: _Static, interval: _Interval, baseline: Path) -> dict[str, Any]:
    resolution = static.network.config.resolution
    return {
        "resolution": resolution,
        "weights": weights_digests(baseline / str(resolution)),
        "multiply_adds": static_multiply_adds(static.network),
        **_accuracy(static.test, None, interval),
    }


def _at_equal_accuracy(
    table: Sequence[OperatingPoint],
    wanted: Mapping[str, float],
    test: Record,
    costs: npt.NDArray[np.int64],
    full: _Static,
    full_cost: int,
    interval: _Interval,
) -> dict[str, Any]:
    """The cheapest budgets that are as accurate as the static network of full resolution.

    They are chosen on the calibration split, by its accuracy (``at_accuracy``) or the lower bound
    of its interval (``within_interval``) there, so that what they give on the test split was not
    picked for it.
    """
    found: dict[str, Any] = {}
    for name, accuracy in wanted.items():
        enough = [point for point in table if point.accuracy >= accuracy]
        if not enough:
            found[name] = None
            continue
        thresholds = enough[0].thresholds
        point = _point(thresholds, test, costs, interval)
        correct = test.correct_at(exit_steps(test.confidence, thresholds))
        difference = correct.astype(int) - full.test
        found[name] = {
            **point,
            "factor": round(full_cost / point["multiply_adds"], 3),
            "difference": round(float(difference.mean()), 6),
            "difference_interval": interval(difference),
        }
    return found


def _anytime(
    record: Record, costs: npt.NDArray[np.int64], step: int, interval: _Interval
) -> dict[str, Any]:
    return {
        "step": step,
        "multiply_adds": int(costs[step]),
        **_accuracy(record.correct[:, step], record.confidence[:, step], interval),
    }


def _budgeted(
    table: Sequence[OperatingPoint],
    record: Record,
    costs: npt.NDArray[np.int64],
    budgets: int,
    interval: _Interval,
) -> list[dict[str, Any]]:
    """What budgets of the calibration split give on the recorded images."""
    spent = [point.multiply_adds for point in table]
    points = []
    for budget in np.linspace(costs[0], costs[-1], budgets):
        thresholds = point_within(table, spent, float(budget)).thresholds
        point = _point(thresholds, record, costs, interval)
        points.append({"budget": float(budget), **point})
    return points


def _point(
    thresholds: Sequence[float],
    record: Record,
    costs: npt.NDArray[np.int64],
    interval: _Interval,
) -> dict[str, Any]:
    """What thresholds give on the recorded images."""
    exits = exit_steps(record.confidence, thresholds)
    point = operating_point(record, costs, thresholds)
    return {
        "multiply_adds": point.multiply_adds,
        **_accuracy(record.correct_at(exits), record.confidence_at(exits), interval),
        "exit_share": [round(share, 6) for share in point.exit_share],
        "thresholds": list(thresholds),
    }


def _accuracy(
    correct: npt.NDArray[np.bool_],
    confidence: npt.NDArray[np.float32] | None,
    interval: _Interval,
) -> dict[str, Any]:
    """Accuracy and its interval; and, where confidences are given, how honest they are."""
    found = {"accuracy": round(float(correct.mean()), 6), "interval": interval(correct)}
    if confidence is not None:
        error = expected_calibration_error(confidence, correct)
        found["calibration_error"] = round(error, 6)
    return found


def _interval(
    values: npt.NDArray[np.generic], sources: npt.NDArray[np.int64] | None, seed: int
) -> list[float]:
    """Bounds of a mean over images; those made from one original are drawn together."""
    return [round(bound, 6) for bound in mean_interval(values, sources, seed=seed)]
