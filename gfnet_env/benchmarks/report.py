"""Results as tables and as pictures."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_env.benchmarks.results import CurvePoint, Evaluation, PolicyResult
from gfnet_env.env.rendering import caption, draw_looks, taken_looks
from gfnet_env.files import write_atomically
from gfnet_env.images import ImageSet
from gfnet_env.inference import Answers, EarlyExitGFNet, OperatingPoint
from gfnet_env.models import Model
from gfnet_env.policies import BOUNDS


class PolicyRun(Protocol):
    """What a run of stage 2 found."""

    @property
    def split(self) -> str: ...

    @property
    def images(self) -> int: ...

    @property
    def policies(self) -> Mapping[str, PolicyResult]: ...

    @property
    def multiply_adds(self) -> Sequence[int]: ...

    @property
    def early_exit(self) -> Sequence[OperatingPoint]: ...


def shown_names(policies: Mapping[str, PolicyResult], images: int) -> dict[str, str]:
    """How to show the name of each policy: with its images where it saw fewer than others."""
    return {
        name: name if found.images == images else f"{name} ({found.images} images)"
        for name, found in policies.items()
    }


def step_names(steps: int) -> list[str]:
    """The names of T steps in tables."""
    return ["glance", *(f"look {number}" for number in range(1, steps))]


def millions(multiply_adds: float) -> str:
    """Multiply-adds in tables."""
    return f"{multiply_adds / 1e6:.2f} M"


def print_results(results: PolicyRun, console: Console) -> None:
    """Print accuracy per step and policy, and the operating points of the early exit."""
    steps = step_names(len(results.multiply_adds))
    table = Table("policy", *steps, title=f"Accuracy on the {results.split} split")
    for name, shown in shown_names(results.policies, results.images).items():
        table.add_row(shown, *(f"{value:.1%}" for value in results.policies[name].accuracy))
    table.add_row("multiply-adds", *map(millions, results.multiply_adds))
    console.print(table)
    exits = Table("accuracy", "multiply-adds", *(f"exit {n}" for n in steps), title="Early exit")
    for point in results.early_exit:
        shares = (f"{share:.0%}" for share in point.exit_share)
        exits.add_row(f"{point.accuracy:.1%}", millions(point.multiply_adds), *shares)
    console.print(exits)


def plot_accuracy(results: PolicyRun, path: Path) -> None:
    """Plot accuracy per step of every policy, and accuracy against cost with early exit."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_step, by_cost = figure.subplots(1, 2, sharey=True)
    for name, shown in shown_names(results.policies, results.images).items():
        style = "--" if name in BOUNDS else "-"
        by_step.plot(results.policies[name].accuracy, style, marker="o", label=shown)
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
        # matplotlib searches for the best place otherwise, and warns where that takes long.
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def draw_sheet(
    gfnet: EarlyExitGFNet, images: ImageSet, indices: npt.NDArray[np.int64], path: Path
) -> None:
    """Draw images of a set, (S,), with the looks that were taken before the exit."""
    draw_answers(gfnet.model, images, indices, {"": gfnet(images, indices)}, path)


def draw_answers(
    model: Model,
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    answers: Mapping[str, Answers],
    path: Path,
    *,
    labelled: bool = True,
) -> None:
    """Draw images with the looks at them and a caption.

    Args:
        model: What looked.
        images: The set.
        indices: Which of its images, (S,).
        answers: For these images: a row of pictures for each name, several rows for a single one.
        path: The picture's file.
        labelled: Whether the captions name the true class where another was predicted.
    """
    labels = images.labels[indices].tolist() if labelled else [None] * len(indices)
    columns = len(indices) if len(answers) > 1 else min(len(indices), 6)
    rows = -(-len(answers) * len(indices) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    numbers = itertools.product(answers.values(), range(len(indices)))
    for axes, (answer, row) in zip(grid.flat, numbers, strict=False):
        looks = taken_looks(answer.locations[row].cpu(), answer.scales[row].cpu())
        prediction, confidence = int(answer.classes[row]), float(answer.confidence[row])
        text = caption(model.class_names, prediction, labels[row], confidence)
        axes.imshow(draw_looks(images, int(indices[row]), looks, model.view, text))
    for name, axes in zip(answers, grid[:, 0], strict=False):
        axes.set_title(name, loc="left", fontsize=10)
    save_figure(figure, path)


def print_curves(results: Evaluation, console: Console) -> None:
    """Print the anytime and static accuracies, the budgets, and how they compare."""
    steps = step_names(len(results.anytime))
    names = [f"GFNet, {name}" for name in steps]
    names += [f"static, {row.resolution}×{row.resolution}" for row in results.static or ()]
    title = f"{results.images} {results.split} images"
    _print_points(title, "network", names, (*results.anytime, *(results.static or ())), console)
    for method, points in results.budgeted.items():
        budgets = [millions(point.budget) for point in points]
        _print_points(f"{method} exits", "budget", budgets, points, console)
        off = max(abs(point.multiply_adds / point.budget - 1) for point in points)
        console.print(f"{method} exits, mean cost furthest from its budget: {off:.1%}")
    _print_comparisons(results, console)


def _print_points(
    title: str, kind: str, names: Sequence[str], points: Sequence[CurvePoint], console: Console
) -> None:
    columns = (kind, "multiply-adds", "accuracy", "95% interval", "calibration error")
    table = Table(*columns, title=title)
    for name, point in zip(names, points, strict=True):
        cells = [millions(point.multiply_adds), f"{point.accuracy:.1%}"]
        cells.append("{:.1%} to {:.1%}".format(*point.interval))
        if point.calibration_error is not None:
            cells.append(f"{point.calibration_error:.3f}")
        table.add_row(name, *cells)
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
                f"at {millions(least.multiply_adds)}"
            )


def write_csv(results: Evaluation, path: Path) -> None:
    """Write one row for every point of every curve."""
    curves: dict[str, Sequence[CurvePoint]] = {"anytime": results.anytime, **results.budgeted}
    curves["static"] = results.static or ()
    rows = [
        [name, point.multiply_adds, point.accuracy, *point.interval]
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
    """Write a figure in the format of the file's ending; PNG without one."""
    # Named, since matplotlib adds an ending of its own to a file that has none.
    kind = path.suffix.lstrip(".") or "png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format=kind))
