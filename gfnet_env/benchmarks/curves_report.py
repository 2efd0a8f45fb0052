"""Tables and a plot of accuracy against multiply-adds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.advice import budget_advice, policy_advice, static_advice
from gfnet_env.benchmarks.report import millions, new_figure, save_figure, step_names, write_rows
from gfnet_env.benchmarks.results import CurvePoint, Evaluation
from gfnet_env.console import PlainTable
from gfnet_env.models import Model


def print_curves(results: Evaluation, model: Model, console: Console) -> None:
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
    console.print(
        *budget_advice(results.budgeted),
        *policy_advice(results.policies or {}, model),
        *static_advice(results),
    )


def _print_points(
    title: str, kind: str, names: Sequence[str], points: Sequence[CurvePoint], console: Console
) -> None:
    columns = (kind, "multiply-adds", "accuracy", "95% interval", "calibration error")
    table = PlainTable(*columns, title=title)
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


def plot_curves(results: Evaluation, path: Path) -> None:
    """Plot accuracy against multiply-adds, with intervals, for all networks."""
    figure = new_figure(7.5, 5)
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
