"""Accuracy against multiply-adds: anytime, budgeted, and static networks beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.report import plot_curves, print_curves, write_csv
from gfnet_env.benchmarks.statistics import expected_calibration_error, mean_interval
from gfnet_env.data import ImageSet
from gfnet_env.files import write_json
from gfnet_env.inference import (
    EarlyExitGFNet,
    Record,
    evaluate_policy,
    evaluate_static,
    exit_steps,
    solve_budgets,
)
from gfnet_env.inference.budgets import Method, OperatingPoint, point_within
from gfnet_env.inference.cost import static_multiply_adds
from gfnet_env.matching import check_classes, check_fit, open_images
from gfnet_env.perception import StaticNetwork
from gfnet_env.runs import create_run, resolve_device, save_config

METHODS: tuple[Method, ...] = ("geometric", "searched")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to evaluate, on what."""

    run: Path
    """Run folder of an assembled network."""
    baseline: Path | None = None
    """Run folder of static baselines to hold it against; by default none."""
    out: Path | None = None
    """Folder for the results; by default RUN/evaluation."""
    images: str | None = None
    """Image set; by default what the network was trained on."""
    image_size: int | None = None
    """Side that pictures of a folder are brought to; by default as in the network's training."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""
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


def evaluate(
    config: EvaluationConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> dict[str, Any]:
    """Measure the curves on the test split and write results.json, curves.csv and accuracy.png.

    Thresholds are solved on the ``val`` split. Figures come with the bounds of a 95% interval over
    test images.

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
    gfnet = EarlyExitGFNet.load(config.run).to(device)
    sets = image_sets or {
        split: open_images(
            gfnet.network,
            config.images,
            split,
            image_size=config.image_size,
            data_root=config.data_root,
        )
        for split in ("val", "test")
    }
    for images in sets.values():
        check_fit(gfnet.network, images)
    baselines = load_baselines(config.baseline) if config.baseline else []
    for network in baselines:
        check_classes(network.config, sets["test"])
    out = create_run(config.out or config.run / "evaluation", overwrite=config.overwrite)
    save_config(out, config)

    with console.status("every step of the calibration and test images"):
        calibration = evaluate_policy(gfnet.network, gfnet.policy, sets["val"])
        record = evaluate_policy(gfnet.network, gfnet.policy, sets["test"])
    costs = np.array(gfnet.multiply_adds)
    results: dict[str, Any] = {
        "split": "test",
        "images": len(sets["test"]),
        "calibration_images": len(sets["val"]),
        "anytime": [_anytime(record, costs, step, config.seed) for step in range(len(costs))],
        "budgeted": {
            method: _budgeted(solve_budgets(calibration, costs, method), record, costs, config)
            for method in METHODS
        },
    }
    static = []
    for network in baselines:
        with console.status(f"static network at {network.config.resolution}"):
            right = evaluate_static(network.to(device), sets["test"])
        static.append(
            {
                "resolution": network.config.resolution,
                "multiply_adds": static_multiply_adds(network),
                **_accuracy(right, config.seed),
            }
        )
    if static:
        results["static"] = static
        results["comparison"] = {
            method: compare(points, static) for method, points in results["budgeted"].items()
        }
    write_json(out / "results.json", results)
    write_csv(results, out / "curves.csv")
    plot_curves(results, out / "accuracy.png")
    print_curves(results, console)
    console.print(f"{out} holds results.json, curves.csv and accuracy.png")
    return results


def load_baselines(folder: Path) -> list[StaticNetwork]:
    """The static networks of a run of ``train_baseline``, by rising resolution.

    Raises:
        FileNotFoundError: There are none.
    """
    networks = [StaticNetwork.load(path.parent) for path in folder.glob("*/static.json")]
    if not networks:
        raise FileNotFoundError(f"there are no static networks in {folder}; train some baselines")
    return sorted(networks, key=lambda network: network.config.resolution)


def compare(
    points: Sequence[Mapping[str, Any]], static: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Hold budgeted points against static networks.

    Args:
        points: With ``multiply_adds``, ``accuracy`` and ``interval`` each.
        static: The same, by rising cost; the last is the full resolution.

    Returns:
        ``at_accuracy`` and ``within_interval``: the cheapest point that is as accurate as the full
        resolution, or as the lower bound of its interval, with the ``factor`` of multiply-adds that
        it saves, or None where there is no such point. ``least_margin``: by how much accuracy the
        points are above the static curve (in the logarithm of the cost) at the least, over the
        costs that both cover, and at which cost that is.
    """
    full = static[-1]

    def cheapest(accuracy: float) -> dict[str, Any] | None:
        enough = [point for point in points if point["accuracy"] >= accuracy]
        if not enough:
            return None
        point = min(enough, key=lambda point: point["multiply_adds"])
        factor = full["multiply_adds"] / point["multiply_adds"]
        return {**point, "factor": round(factor, 3)}

    static_costs = np.log([row["multiply_adds"] for row in static])
    curve = [row["accuracy"] for row in static]
    margins = [
        (point["accuracy"] - np.interp(np.log(cost), static_costs, curve), cost)
        for point, cost in ((point, point["multiply_adds"]) for point in points)
        if np.log(cost) >= static_costs[0]
    ]
    least = min(margins, default=None)
    return {
        "at_accuracy": cheapest(full["accuracy"]),
        "within_interval": cheapest(full["interval"][0]),
        "least_margin": least
        and {"accuracy": round(float(least[0]), 6), "multiply_adds": least[1]},
    }


def _anytime(record: Record, costs: npt.NDArray[np.int64], step: int, seed: int) -> dict[str, Any]:
    right, confidence = record.correct[:, step], record.confidence[:, step]
    return {
        "step": step,
        "multiply_adds": int(costs[step]),
        **_accuracy(right, seed),
        "calibration_error": round(expected_calibration_error(confidence, right), 6),
    }


def _budgeted(
    table: Sequence[OperatingPoint],
    record: Record,
    costs: npt.NDArray[np.int64],
    config: EvaluationConfig,
) -> list[dict[str, Any]]:
    """What budgets of the calibration split give on the recorded images."""
    points = []
    spent = [point.multiply_adds for point in table]
    for budget in np.linspace(costs[0], costs[-1], config.budgets):
        thresholds = point_within(table, spent, float(budget)).thresholds
        exits = exit_steps(record.confidence, thresholds)
        right = record.correct[np.arange(len(exits)), exits]
        share = np.bincount(exits, minlength=len(costs)) / len(exits)
        points.append(
            {
                "budget": float(budget),
                "multiply_adds": float(costs[exits].mean()),
                **_accuracy(right, config.seed),
                "exit_share": share.round(6).tolist(),
                "thresholds": list(thresholds),
            }
        )
    return points


def _accuracy(right: npt.NDArray[np.bool_], seed: int) -> dict[str, Any]:
    low, high = mean_interval(right, seed=seed)
    return {"accuracy": round(float(right.mean()), 6), "interval": [round(low, 6), round(high, 6)]}
