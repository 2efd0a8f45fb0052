"""A comparison of policies as tables and as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_env.benchmarks.report import (
    draw_frames,
    frames_of,
    save_figure,
    shown_names,
    step_names,
    write_rows,
)
from gfnet_env.benchmarks.results import PolicyComparison
from gfnet_env.features import LiveFeatures
from gfnet_env.images import ImageSet, batches
from gfnet_env.inference import Answers
from gfnet_env.models import Model
from gfnet_env.policies import BOUNDS, Context, Policy
from gfnet_env.rollout import rollout

_WITH_INTERVALS = {
    "accuracy": "Accuracy",
    "label_confidence": "Confidence in the true class",
}
_PER_LOOK = ("share_of_gain", "centred", "covered")


def print_comparison(results: PolicyComparison, console: Console) -> None:
    """Print accuracy, confidence, gains and overlaps of every policy, step by step."""
    names = shown_names(results)
    for key, title in _WITH_INTERVALS.items():
        rows = {
            names[name]: [
                f"{value:.1%}\n{100 * low:.1f}–{high:.1%}"
                for value, (low, high) in zip(
                    getattr(found, key), getattr(found, f"{key}_interval"), strict=True
                )
            ]
            for name, found in results.policies.items()
        }
        where = f"{results.images} {results.split} images"
        _print_steps(console, f"{title}, 95% intervals ({where})", rows)
    titles = (
        f"Share of what the {results.reference} policy gains over the glance",
        f"Windows whose centre is on the object ({results.objects})",
        "Share of the object covered so far",
    )
    for key, title in zip(_PER_LOOK, titles, strict=True):
        rows = {
            names[name]: ["–" if value is None else f"{value:.1%}" for value in getattr(found, key)]
            for name, found in results.policies.items()
            if getattr(found, key) is not None
        }
        if rows:
            _print_steps(console, title, rows, first_step=1)
    for name, found in results.policies.items():
        if found.over_random is not None:
            low, high = found.over_random.interval
            console.print(
                f"{names[name]} over random looks, last step: {found.over_random.difference:+.1%} "
                f"({low:+.1%} to {high:+.1%})"
            )


def _print_steps(
    console: Console, title: str, rows: Mapping[str, Sequence[str]], first_step: int = 0
) -> None:
    steps = len(next(iter(rows.values())))
    table = Table("policy", *step_names(first_step + steps)[first_step:], title=title)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def write_comparison(results: PolicyComparison, path: Path) -> None:
    """Write one row for every policy and step; cells of what is not known stay empty."""
    header = ["policy", "step", "images"]
    for key in _WITH_INTERVALS:
        header += [key, f"{key}_low", f"{key}_high"]
    rows = []
    for name, found in results.policies.items():
        for step in range(len(found.accuracy)):
            row = [name, step, found.images]
            for key in _WITH_INTERVALS:
                row += [getattr(found, key)[step], *getattr(found, f"{key}_interval")[step]]
            known = ((getattr(found, key) or ()) if step else () for key in _PER_LOOK)
            cells = (values[step - 1] if values else None for values in known)
            rows.append([*row, *("" if value is None else value for value in cells)])
    write_rows([*header, *_PER_LOOK], rows, path)


def plot_comparison(results: PolicyComparison, path: Path) -> None:
    """Plot accuracy and confidence in the true class per step, with the intervals."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    both = figure.subplots(1, 2)
    names = shown_names(results)
    for axes, key in zip(both, _WITH_INTERVALS, strict=True):
        for name, found in results.policies.items():
            low, high = np.array(getattr(found, f"{key}_interval")).T
            steps = np.arange(len(low))
            style = "--" if name in BOUNDS else "-"
            (line,) = axes.plot(steps, getattr(found, key), style, marker="o", label=names[name])
            axes.fill_between(steps, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
        axes.set_xticks(steps)
        axes.set(xlabel="looks", ylabel=key.replace("label_", "").replace("_", " "))
        axes.grid(alpha=0.3)
    both[0].set_title(f"Accuracy on the {results.split} split")
    both[1].set_title("Confidence in the true class")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside right center")
    save_figure(figure, path)


def draw_trajectories(
    model: Model,
    policies: Mapping[str, Policy],
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    path: Path,
) -> None:
    """Draw the looks of every policy: a row for each, and in it the same images.

    Args:
        model: What looks.
        policies: By name.
        images: The set.
        indices: Which of its images to draw, (S,).
        path: The picture's file.
    """
    frames = []
    (batch,) = batches(images, len(indices), indices, model.device)
    context = Context(LiveFeatures(model, images), indices, batch.labels, batch.boxes)
    for policy in policies.values():
        answers = Answers.blank(model, len(indices))
        with torch.no_grad():
            for number, step in enumerate(rollout(context.features, policy, context)):
                answers.update(number, step)
        frames += frames_of(model, images, indices, answers, batch.labels.tolist())
    draw_frames(frames, path, columns=len(indices), row_names=list(policies))
