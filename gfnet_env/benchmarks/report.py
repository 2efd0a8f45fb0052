"""Results as tables and as pictures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gfnet_env.data import ImageSet
from gfnet_env.env.rendering import caption, draw_trajectory
from gfnet_env.files import write_atomically
from gfnet_env.inference.cost import PartCost
from gfnet_env.inference.early_exit import EarlyExitGFNet, Prediction
from gfnet_env.policies import BOUNDS

_SHEET_COLUMNS = 6


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Print accuracy per step and policy, and the operating points of the early exit."""
    steps = len(results["multiply_adds"])
    names = ["glance", *(f"focus {number}" for number in range(1, steps))]
    table = Table("policy", *names, "images", title=f"Accuracy on the {results['split']} split")
    for name, policy in results["policies"].items():
        values = [f"{value:.1%}" for value in policy["accuracy"]]
        table.add_row(name, *values, str(policy["images"]))
    millions = [f"{value / 1e6:.2f} M" for value in results["multiply_adds"]]
    table.add_row("multiply-adds", *millions, end_section=True)
    console.print(table)

    exits = Table("accuracy", "multiply-adds", *(f"exit {n}" for n in names), title="Early exit")
    for point in results["early_exit"]:
        shares = [f"{share:.0%}" for share in point["exit_share"]]
        exits.add_row(f"{point['accuracy']:.1%}", f"{point['multiply_adds'] / 1e6:.2f} M", *shares)
    console.print(exits)


def plot_accuracy(results: Mapping[str, Any], path: Path) -> None:
    """Plot accuracy per step of every policy, and accuracy against cost with early exit."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_step, by_cost = figure.subplots(1, 2, sharey=True)
    for name, policy in results["policies"].items():
        dashed = "--" if name in BOUNDS else "-"
        by_step.plot(policy["accuracy"], dashed, marker="o", label=name)
    by_step.set(xlabel="focus steps", ylabel=f"{results['split']} accuracy")
    by_step.set_xticks(range(len(results["multiply_adds"])))
    by_step.set_title("Policies, no exits")
    # Where best is, matplotlib would look for, and warn where that takes long.
    by_step.legend(loc="lower right")

    cost = np.array(results["multiply_adds"]) / 1e6
    by_cost.plot(cost, results["policies"]["learned"]["accuracy"], marker="o", label="all steps")
    points = sorted(
        (point["multiply_adds"] / 1e6, point["accuracy"]) for point in results["early_exit"]
    )
    by_cost.plot(*zip(*points, strict=True), marker=".", label="early exit")
    by_cost.set(xlabel="mean multiply-adds per image (millions)")
    by_cost.set_title("Learned policy")
    by_cost.legend(loc="lower right")
    for axes in (by_step, by_cost):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def draw_sheet(
    gfnet: EarlyExitGFNet, images: ImageSet, indices: npt.NDArray[np.int64], path: Path
) -> None:
    """Draw images of a set with the patches that were looked at before the exit.

    Args:
        gfnet: The assembled network.
        images: The set.
        indices: Which of its images to draw, (S,).
        path: The picture's file.
    """
    pixels = images[indices]
    prediction = gfnet(pixels.to(gfnet.network.device))
    frames = [
        _frame(gfnet, pixels[row], prediction, row, int(images.labels[index]))
        for row, index in enumerate(indices)
    ]
    draw_frames(frames, path)


def draw_predictions(
    gfnet: EarlyExitGFNet, images: Sequence[Tensor], predictions: Sequence[Prediction], path: Path
) -> None:
    """Draw images with the patches that were looked at, where the true classes are not known.

    Args:
        gfnet: The assembled network.
        images: (3, H, W) uint8 each.
        predictions: Of each, as a batch of one.
        path: The picture's file.
    """
    frames = [
        _frame(gfnet, image, prediction, 0, None)
        for image, prediction in zip(images, predictions, strict=True)
    ]
    draw_frames(frames, path)


def _frame(
    gfnet: EarlyExitGFNet, pixels: Tensor, prediction: Prediction, row: int, label: int | None
) -> npt.NDArray[np.uint8]:
    text = caption(
        gfnet.network.config.class_names,
        int(prediction.classes[row]),
        label,
        float(prediction.confidence[row]),
    )
    taken = prediction.locations[row, : int(prediction.exit_step[row])].cpu()
    return draw_trajectory(gfnet.network, pixels, taken, text)


def draw_frames(
    frames: Sequence[npt.NDArray[np.uint8]],
    path: Path,
    columns: int = _SHEET_COLUMNS,
    row_names: Sequence[str] = (),
) -> None:
    """Draw pictures side by side, row by row.

    Args:
        frames: (H, W, 3) each.
        path: The picture's file.
        columns: Pictures in a row.
        row_names: What to write above the rows, if anything.
    """
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for frame, axes in zip(frames, grid.flat, strict=False):
        axes.imshow(frame)
    for name, axes in zip(row_names, grid[:, 0], strict=False):
        axes.set_title(name, loc="left", fontsize=10)
    save_figure(figure, path)


def print_curves(results: Mapping[str, Any], console: Console) -> None:
    """Print the anytime and static accuracies, and how the budgets compare."""
    table = Table(
        "network",
        "multiply-adds",
        "accuracy",
        "95% interval",
        "calibration error",
        title=f"{results['images']} {results['split']} images",
    )
    for row in results["anytime"]:
        name = f"GFNet, {row['step']} focus steps" if row["step"] else "GFNet, glance"
        table.add_row(name, *_cells(row), f"{row['calibration_error']:.3f}")
    for row in results.get("static", ()):
        table.add_row(f"static, {row['resolution']}×{row['resolution']}", *_cells(row), "")
    console.print(table)
    for method, points in results["budgeted"].items():
        table = Table(
            "budget",
            "multiply-adds",
            "accuracy",
            "95% interval",
            "calibration error",
            title=f"{method} exits",
        )
        for row in points:
            error = f"{row['calibration_error']:.3f}"
            table.add_row(f"{row['budget'] / 1e6:.2f} M", *_cells(row), error)
        console.print(table)
        off = max(abs(row["multiply_adds"] / row["budget"] - 1) for row in points)
        console.print(f"{method} exits, mean cost furthest from its budget: {off:.1%}")
    for method, found in results.get("comparison", {}).items():
        for name, title in (
            ("at_accuracy", "at the accuracy of the full resolution"),
            ("within_interval", "within its interval"),
        ):
            point = found[name]
            text = "never"
            if point:
                low, high = point["difference_interval"]
                text = (
                    f"{point['factor']:.2f}× fewer multiply-adds, {point['accuracy']:.1%} "
                    f"({point['difference']:+.1%}, {low:+.1%} to {high:+.1%})"
                )
            console.print(f"{method} exits, {title}: {text}")
        if least := found["least_margin"]:
            console.print(
                f"{method} exits, least margin over the static curve: {least['accuracy']:+.1%} "
                f"at {least['multiply_adds'] / 1e6:.2f} M"
            )


def print_costs(parts: Sequence[PartCost], exits: Sequence[int], console: Console) -> None:
    """Print what every part costs, and every exit."""
    table = Table("part", "input", "multiply-adds", "parameters", "activations")
    for part in parts:
        table.add_row(
            part.name,
            "×".join(map(str, part.input_shape)),
            f"{part.multiply_adds / 1e6:.3f} M",
            f"{part.parameters:,}",
            f"{part.activation_bytes / 2**20:.2f} MiB",
        )
    console.print(table)
    for number, cost in enumerate(exits):
        name = f"exit after focus step {number}" if number else "exit at the glance"
        console.print(f"{name}: {cost / 1e6:.3f} M multiply-adds")


def print_latencies(results: Mapping[str, Any], console: Console) -> None:
    """Print milliseconds per image and how many times faster than the static network that is."""
    side = results["resolution"]
    for timing in results["timings"]:
        table = Table(
            "network",
            "accuracy",
            "ms per image",
            f"× faster than {side}×{side}",
            title=(
                f"{timing['engine']}, batches of {timing['batch_size']}, "
                f"{timing['threads']} thread{'s' * (timing['threads'] > 1)}"
            ),
        )
        accuracy = f"{results['static_accuracy']:.1%}"
        table.add_row(f"static, {side}×{side}", accuracy, _spread(timing["static"]), "")
        for point, timed in zip(results["points"], timing["points"], strict=True):
            name = f"{point['name']}, {point['multiply_adds'] / 1e6:.1f} M"
            speedup = _spread(timed["speedup"])
            table.add_row(name, f"{point['accuracy']:.1%}", _spread(timed), speedup)
        console.print(table)


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f} to {values['max']:.2f})"


def print_memory(results: Mapping[str, Any], console: Console) -> None:
    """Print mebibytes at every resolution."""
    table = Table("image", "decoded", "GFNet, peak", "above idle", "static, peak", "above idle")
    for row in results["rows"]:
        cells = [f"{row['image']:.1f} MiB"]
        for name in ("gfnet", "static"):
            taken = row.get(name, {})
            if "error" in taken:
                cells += ["failed", taken["error"]]
            elif taken:
                work = taken["peak"] - taken["idle"]
                cells += [f"{taken['peak']:.0f} MiB", f"{work:.1f} MiB"]
        table.add_row(f"{row['resolution']}×{row['resolution']}", *cells)
    console.print(table)
    if results["variation"] is not None:
        console.print(f"GFNet's peak varies by {results['variation']:.1%}, the image not counted")


def write_csv(results: Mapping[str, Any], path: Path) -> None:
    """Write one row for every point of every curve."""
    curves = {"anytime": results["anytime"], **results["budgeted"]}
    if "static" in results:
        curves["static"] = results["static"]

    rows = [
        [name, point["multiply_adds"], point["accuracy"], *point["interval"]]
        for name, points in curves.items()
        for point in points
    ]
    write_rows(["curve", "multiply_adds", "accuracy", "low", "high"], rows, path)


def write_rows(header: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Write a table as CSV."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    write_atomically(path, write)


def plot_curves(results: Mapping[str, Any], path: Path) -> None:
    """Plot accuracy against multiply-adds, with the intervals, of all networks there are."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for method, points in results["budgeted"].items():
        cost, accuracy, low, high = _columns(points)
        (line,) = axes.plot(cost, accuracy, marker=".", label=f"GFNet, {method} exits")
        axes.fill_between(cost, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    cost, accuracy, _, _ = _columns(results["anytime"])
    axes.plot(cost, accuracy, "kx", label="GFNet, anytime")
    if "static" in results:
        cost, accuracy, low, high = _columns(results["static"])
        error = np.array([accuracy - low, high - accuracy])
        axes.errorbar(cost, accuracy, error, marker="s", capsize=3, label="static networks")
        for row, x in zip(results["static"], cost, strict=True):
            axes.annotate(
                f"{row['resolution']}", (x, row["accuracy"]), (5, -12), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set(
        xlabel="mean multiply-adds per image (millions)", ylabel=f"{results['split']} accuracy"
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    save_figure(figure, path)


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = row["interval"]
    return (
        f"{row['multiply_adds'] / 1e6:.2f} M",
        f"{row['accuracy']:.1%}",
        f"{low:.1%} to {high:.1%}",
    )


def _columns(points: Sequence[Mapping[str, Any]]) -> tuple[npt.NDArray[np.float64], ...]:
    """Millions of multiply-adds, accuracy and its bounds, (S,) each."""
    cost = np.array([point["multiply_adds"] for point in points]) / 1e6
    accuracy = np.array([point["accuracy"] for point in points])
    low, high = np.array([point["interval"] for point in points]).T
    return cost, accuracy, low, high


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's ending."""
    # Named, since matplotlib gives an ending of its own to a file that has none.
    kind = path.suffix.lstrip(".") or "png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format=kind))
