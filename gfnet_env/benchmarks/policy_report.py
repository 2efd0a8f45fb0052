"""Tables and plots that compare policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from gfnet_env.benchmarks.advice import policy_advice
from gfnet_env.benchmarks.report import (
    draw_answers,
    millions,
    new_figure,
    save_figure,
    step_names,
    write_rows,
)
from gfnet_env.benchmarks.results import PolicyComparison, PolicyResult, PolicyResults
from gfnet_env.console import PlainTable
from gfnet_env.features import LiveFeatures
from gfnet_env.images import ImageSet, batches
from gfnet_env.inference import Answers
from gfnet_env.models import Model
from gfnet_env.policies import BOUNDS, Context, Policy
from gfnet_env.rollout import rollout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WITH_INTERVALS = {
    "accuracy": "Accuracy",
    "label_confidence": "Confidence in the true class",
}
_PER_LOOK = {
    "share_of_gain": "Share of what the {0.reference} policy gains over the glance",
    "centred": "Windows whose centre is on the object ({0.objects})",
    "covered": "Share of the object covered so far",
}


def print_results(results: PolicyResults, model: Model, console: Console) -> None:
    """Print accuracy per step and policy, and the operating points of the early exit."""
    steps = step_names(len(results.multiply_adds))
    table = PlainTable("policy", *steps, title=f"Accuracy on the {results.split} split")
    for name, shown in _shown_names(results).items():
        table.add_row(shown, *(f"{value:.1%}" for value in results.policies[name].accuracy))
    table.add_row("multiply-adds", *map(millions, results.multiply_adds))
    console.print(table)
    title = "Early exit: the share of images at each step"
    exits = PlainTable("accuracy", "multiply-adds", *steps, title=title)
    for point in results.early_exit:
        shares = (f"{share:.0%}" for share in point.exit_share)
        exits.add_row(f"{point.accuracy:.1%}", millions(point.multiply_adds), *shares)
    console.print(exits)
    console.print(*policy_advice(results.policies, model))


def print_comparison(results: PolicyComparison, model: Model, console: Console) -> None:
    """Print accuracy, confidence, gains and overlaps of every policy, step by step."""
    steps = step_names(len(next(iter(results.policies.values())).accuracy))
    names = _shown_names(results)
    for key, title in (_WITH_INTERVALS | _PER_LOOK).items():
        if key in _WITH_INTERVALS:
            title += f", 95% intervals ({results.images} {results.split} images)"
        shown = steps if key in _WITH_INTERVALS else steps[1:]
        table = PlainTable("policy", *shown, title=title.format(results))
        for name, found in results.policies.items():
            if getattr(found, key) is not None:
                table.add_row(names[name], *_cells(found, key))
        if table.row_count:
            console.print(table)
    for name, found in results.policies.items():
        if found.over_random is not None:
            low, high = found.over_random.interval
            console.print(
                f"{names[name]} over random looks, last step: {found.over_random.difference:+.1%} "
                f"({low:+.1%} to {high:+.1%})"
            )
    console.print(*policy_advice(results.policies, model))


def _shown_names(results: PolicyComparison) -> dict[str, str]:
    """The name of each policy in tables, with its number of images if it saw fewer than others."""
    return {
        name: name if found.images == results.images else f"{name} ({found.images} images)"
        for name, found in results.policies.items()
    }


def _cells(found: PolicyResult, key: str) -> list[str]:
    values = ["–" if value is None else f"{value:.1%}" for value in getattr(found, key)]
    if key not in _WITH_INTERVALS:
        return values
    intervals = getattr(found, f"{key}_interval")
    return [
        f"{value}\n{100 * low:.1f}–{high:.1%}"
        for value, (low, high) in zip(values, intervals, strict=True)
    ]


def write_comparison(results: PolicyComparison, path: Path) -> None:
    """Write one row for every policy and step; unknown values stay empty."""
    header = ["policy", "step", "images"]
    for key in _WITH_INTERVALS:
        header += [key, f"{key}_low", f"{key}_high"]
    rows = []
    for name, found in results.policies.items():
        for step in range(len(found.accuracy)):
            row = [name, step, found.images]
            for key in _WITH_INTERVALS:
                row += [getattr(found, key)[step], *getattr(found, f"{key}_interval")[step]]
            for key in _PER_LOOK:
                values = getattr(found, key)
                row.append(values[step - 1] if values and step else None)
            rows.append(row)
    write_rows([*header, *_PER_LOOK], rows, path)


def plot_comparison(results: PolicyComparison, path: Path) -> None:
    """Plot accuracy and confidence in the true class per step, with the intervals."""
    figure = new_figure(12, 4.8)
    both = figure.subplots(1, 2)
    for axes, key in zip(both, _WITH_INTERVALS, strict=True):
        _plot_steps(axes, results, key)
        axes.set_ylabel(key.replace("label_", "").replace("_", " "))
    both[0].set_title(f"Accuracy on the {results.split} split")
    both[1].set_title("Confidence in the true class")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside right center")
    save_figure(figure, path)


def plot_results(results: PolicyResults, path: Path) -> None:
    """Plot accuracy per step of every policy, and accuracy against cost with early exit."""
    figure = new_figure(11, 4.5)
    by_step, by_cost = figure.subplots(1, 2, sharey=True)
    _plot_steps(by_step, results, "accuracy")
    by_step.set(ylabel=f"{results.split} accuracy", title="Policies, no exits")
    cost = np.array(results.multiply_adds) / 1e6
    by_cost.plot(cost, results.policies["learned"].accuracy, marker="o", label="all steps")
    points = sorted((point.multiply_adds / 1e6, point.accuracy) for point in results.early_exit)
    by_cost.plot(*zip(*points, strict=True), marker=".", label="early exit")
    by_cost.set(xlabel="mean multiply-adds per image (millions)", title="Learned policy")
    by_cost.grid(alpha=0.3)
    for axes in (by_step, by_cost):
        # Otherwise matplotlib searches for the best place, and warns if that takes long.
        axes.legend(loc="lower right")
    save_figure(figure, path)


def _plot_steps(axes: "Axes", results: PolicyComparison, key: str) -> None:
    """Plot one figure per step of every policy, with its interval."""
    names = _shown_names(results)
    for name, found in results.policies.items():
        low, high = np.array(getattr(found, f"{key}_interval")).T
        style = "--" if name in BOUNDS else "-"
        (line,) = axes.plot(getattr(found, key), style, marker="o", label=names[name])
        steps = range(len(low))
        axes.fill_between(steps, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
    axes.set_xticks(steps)
    axes.set_xlabel("looks")
    axes.grid(alpha=0.3)


@torch.no_grad()
def draw_trajectories(
    model: Model,
    policies: Mapping[str, Policy],
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    path: Path,
) -> None:
    """Draw the looks of every policy at the same images, (S,): a row for each policy."""
    (batch,) = batches(images, len(indices), indices, model.device)
    context = Context(LiveFeatures(model, images), indices, batch.labels, batch.boxes)
    answers = {name: Answers.blank(model, len(indices)) for name in policies}
    for name, policy in policies.items():
        for number, step in enumerate(rollout(context.features, policy, context)):
            answers[name].update(number, step)
    draw_answers(model, images, indices, answers, path)
