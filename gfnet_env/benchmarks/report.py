"""Results as tables and as pictures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_env.benchmarks.results import (
    CurvePoint,
    Evaluation,
    Latency,
    Memory,
    PolicyResult,
    Spread,
)
from gfnet_env.env.rendering import caption, draw_looks, taken_looks
from gfnet_env.files import write_atomically
from gfnet_env.images import ImageSet
from gfnet_env.inference import Answers, EarlyExitGFNet, OperatingPoint
from gfnet_env.models import Model, PartCost
from gfnet_env.policies import BOUNDS

_SHEET_COLUMNS = 6


class ComparedPolicies(Protocol):
    """Policies on the same images."""

    @property
    def split(self) -> str: ...

    @property
    def images(self) -> int: ...

    @property
    def policies(self) -> Mapping[str, PolicyResult]: ...


class PolicyRun(ComparedPolicies, Protocol):
    """What a run of stage 2 found."""

    @property
    def multiply_adds(self) -> Sequence[int]: ...

    @property
    def early_exit(self) -> Sequence[OperatingPoint]: ...


def shown_names(results: ComparedPolicies) -> dict[str, str]:
    """How to show the name of each policy, with its images where it saw fewer than others."""
    return {
        name: name if found.images == results.images else f"{name} ({found.images} images)"
        for name, found in results.policies.items()
    }


def print_results(results: PolicyRun, console: Console) -> None:
    """Print accuracy per step and policy, and the operating points of the early exit."""
    names, steps = shown_names(results), step_names(len(results.multiply_adds))
    table = Table("policy", *steps, title=f"Accuracy on the {results.split} split")
    for name, policy in results.policies.items():
        table.add_row(names[name], *(f"{value:.1%}" for value in policy.accuracy))
    millions = [f"{value / 1e6:.2f} M" for value in results.multiply_adds]
    table.add_row("multiply-adds", *millions, end_section=True)
    console.print(table)
    exits = Table("accuracy", "multiply-adds", *(f"exit {n}" for n in steps), title="Early exit")
    for point in results.early_exit:
        shares = [f"{share:.0%}" for share in point.exit_share]
        exits.add_row(f"{point.accuracy:.1%}", f"{point.multiply_adds / 1e6:.2f} M", *shares)
    console.print(exits)


def plot_accuracy(results: PolicyRun, path: Path) -> None:
    """Plot accuracy per step of every policy, and accuracy against cost with early exit."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_step, by_cost = figure.subplots(1, 2, sharey=True)
    names = shown_names(results)
    for name, policy in results.policies.items():
        style = "--" if name in BOUNDS else "-"
        by_step.plot(policy.accuracy, style, marker="o", label=names[name])
    by_step.set(xlabel="looks", ylabel=f"{results.split} accuracy")
    by_step.set_xticks(range(len(results.multiply_adds)))
    by_step.set_title("Policies, no exits")
    cost = np.array(results.multiply_adds) / 1e6
    by_cost.plot(cost, results.policies["learned"].accuracy, marker="o", label="all steps")
    points = sorted((point.multiply_adds / 1e6, point.accuracy) for point in results.early_exit)
    by_cost.plot(*zip(*points, strict=True), marker=".", label="early exit")
    by_cost.set(xlabel="mean multiply-adds per image (millions)")
    by_cost.set_title("Learned policy")
    for axes in (by_step, by_cost):
        # matplotlib looks for the best place otherwise, and warns where that takes long.
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def draw_sheet(
    gfnet: EarlyExitGFNet, images: ImageSet, indices: npt.NDArray[np.int64], path: Path
) -> None:
    """Draw images of a set with the looks that were taken before the exit.

    Args:
        gfnet: The assembled network.
        images: The set.
        indices: Which of its images to draw, (S,).
        path: The picture's file.
    """
    labels = images.labels[indices].tolist()
    draw_frames(frames_of(gfnet.model, images, indices, gfnet(images, indices), labels), path)


def frames_of(
    model: Model,
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    answers: Answers,
    labels: Sequence[int | None],
) -> list[npt.NDArray[np.uint8]]:
    """Draw images with the looks at them and a caption.

    Args:
        model: What looked.
        images: The set.
        indices: Which of its images, (S,).
        answers: For these images.
        labels: Their true classes, S of them; None where unknown.

    Returns:
        S pictures, (H, W, 3) each.
    """
    locations, scales = answers.locations.cpu(), answers.scales.cpu()
    columns = zip(answers.classes.tolist(), labels, answers.confidence.tolist(), strict=True)
    texts = [caption(model.class_names, *column) for column in columns]
    return [
        draw_looks(images, index, taken_looks(locations[row], scales[row]), model.view, texts[row])
        for row, index in enumerate(indices.tolist())
    ]


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


def step_names(steps: int) -> list[str]:
    """The names of T steps in tables."""
    return ["glance", *(f"look {number}" for number in range(1, steps))]


def print_curves(results: Evaluation, console: Console) -> None:
    """Print the anytime and static accuracies, and how the budgets compare."""
    rows: list[tuple[str, CurvePoint]] = [
        (f"GFNet, {name}", point)
        for name, point in zip(step_names(len(results.anytime)), results.anytime, strict=True)
    ]
    rows += [(f"static, {row.resolution}×{row.resolution}", row) for row in results.static or ()]
    _print_points(f"{results.images} {results.split} images", "network", rows, console)
    for method, points in results.budgeted.items():
        rows = [(f"{point.budget / 1e6:.2f} M", point) for point in points]
        _print_points(f"{method} exits", "budget", rows, console)
        off = max(abs(point.multiply_adds / point.budget - 1) for point in points)
        console.print(f"{method} exits, mean cost furthest from its budget: {off:.1%}")
    _print_comparisons(results, console)


def _print_points(
    title: str, kind: str, rows: Sequence[tuple[str, CurvePoint]], console: Console
) -> None:
    columns = (kind, "multiply-adds", "accuracy", "95% interval", "calibration error")
    table = Table(*columns, title=title)
    for name, point in rows:
        error = "" if point.calibration_error is None else f"{point.calibration_error:.3f}"
        cost, (low, high) = f"{point.multiply_adds / 1e6:.2f} M", point.interval
        table.add_row(name, cost, f"{point.accuracy:.1%}", f"{low:.1%} to {high:.1%}", error)
    console.print(table)


def _print_comparisons(results: Evaluation, console: Console) -> None:
    """Print how early exits compare with static networks."""
    for method, found in (results.comparison or {}).items():
        for point, title in (
            (found.at_accuracy, "at the accuracy of the full resolution"),
            (found.within_interval, "within its interval"),
        ):
            text = "never"
            if point is not None:
                low, high = point.difference_interval
                text = (
                    f"{point.factor:.2f}× fewer multiply-adds, {point.accuracy:.1%} "
                    f"({point.difference:+.1%}, {low:+.1%} to {high:+.1%})"
                )
            console.print(f"{method} exits, {title}: {text}")
        if (least := found.least_margin) is not None:
            console.print(
                f"{method} exits, least margin over the static curve: {least.accuracy:+.1%} "
                f"at {least.multiply_adds / 1e6:.2f} M"
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


def print_latencies(results: Latency, console: Console) -> None:
    """Print milliseconds per image and how many times faster than the static network that is."""
    full = f"{results.resolution}×{results.resolution}"
    for timing in results.timings:
        threads = f"{timing.threads} thread{'s' * (timing.threads > 1)}"
        title = f"{timing.engine}, batches of {timing.batch_size}, {threads}"
        columns = ("network", "accuracy", "ms per image", f"× faster than {full}")
        table = Table(*columns, title=title)
        table.add_row(
            f"static, {full}", f"{results.static_accuracy:.1%}", _spread(timing.static), ""
        )
        for point, timed in zip(results.points, timing.points, strict=True):
            name = f"{point.name}, {point.multiply_adds / 1e6:.1f} M"
            table.add_row(name, f"{point.accuracy:.1%}", _spread(timed), _spread(timed.speedup))
        console.print(table)


def _spread(values: Spread) -> str:
    return f"{values.median:.2f} ({values.min:.2f} to {values.max:.2f})"


def print_memory(results: Memory, console: Console) -> None:
    """Print mebibytes at every resolution."""
    table = Table("image", "decoded", "GFNet, peak", "above idle", "static, peak", "above idle")
    for row in results.rows:
        cells = [f"{row.image:.1f} MiB"]
        for taken in (row.gfnet, row.static):
            if taken is None:
                continue
            if taken.peak is None or taken.idle is None:
                cells += ["failed", taken.error or ""]
            else:
                cells += [f"{taken.peak:.0f} MiB", f"{taken.peak - taken.idle:.1f} MiB"]
        table.add_row(f"{row.resolution}×{row.resolution}", *cells)
    console.print(table)
    if results.variation is not None:
        console.print(f"GFNet's peak varies by {results.variation:.1%}, the image not counted")


def _curves(results: Evaluation) -> Mapping[str, Sequence[CurvePoint]]:
    """All curves by name."""
    static = {"static": results.static} if results.static is not None else {}
    return {"anytime": results.anytime, **results.budgeted, **static}


def write_csv(results: Evaluation, path: Path) -> None:
    """Write one row for every point of every curve."""
    rows = [
        [name, point.multiply_adds, point.accuracy, *point.interval]
        for name, points in _curves(results).items()
        for point in points
    ]
    write_rows(["curve", "multiply_adds", "accuracy", "low", "high"], rows, path)


def write_rows(header: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Write a table as CSV."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    write_atomically(path, write)


def plot_curves(results: Evaluation, path: Path) -> None:
    """Plot accuracy against multiply-adds, with the intervals, of all networks there are."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for method, points in results.budgeted.items():
        cost, accuracy, low, high = _columns(points)
        (line,) = axes.plot(cost, accuracy, marker=".", label=f"GFNet, {method} exits")
        axes.fill_between(cost, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    cost, accuracy, _, _ = _columns(results.anytime)
    axes.plot(cost, accuracy, "kx", label="GFNet, anytime")
    if results.static is not None:
        cost, accuracy, low, high = _columns(results.static)
        error = np.array([accuracy - low, high - accuracy])
        axes.errorbar(cost, accuracy, error, marker="s", capsize=3, label="static networks")
        for row, x in zip(results.static, cost, strict=True):
            where = (x, row.accuracy)
            axes.annotate(f"{row.resolution}", where, (5, -12), textcoords="offset points")
    axes.set_xscale("log")
    axes.set(xlabel="mean multiply-adds per image (millions)", ylabel=f"{results.split} accuracy")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    save_figure(figure, path)


def _columns(points: Sequence[CurvePoint]) -> tuple[npt.NDArray[np.float64], ...]:
    """Millions of multiply-adds, accuracy and its bounds, (S,) each."""
    columns = np.array([(p.multiply_adds / 1e6, p.accuracy, *p.interval) for p in points])
    return tuple(columns.T)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's ending."""
    # Named, since matplotlib gives an ending of its own to a file that has none.
    kind = path.suffix.lstrip(".") or "png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format=kind))
