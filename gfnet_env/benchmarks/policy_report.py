"""A comparison of policies as tables and as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_env.benchmarks.report import draw_frames, save_figure, write_rows
from gfnet_env.data import ImageSet, batches
from gfnet_env.env.rendering import caption, draw_trajectory
from gfnet_env.inference.evaluation import scene_of, unroll
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import BOUNDS, Policy, initial_state


def print_comparison(results: Mapping[str, Any], console: Console) -> None:
    """Print accuracy, confidence, gains and overlaps of every policy, step by step."""
    where = f"{results['images']} {results['split']} images"
    policies = {}
    for name, found in results["policies"].items():
        fewer = found["images"] < results["images"]
        policies[f"{name} ({found['images']} images)" if fewer else name] = found
    titles = {"accuracy": "Accuracy", "label_confidence": "Confidence in the true class"}
    for key, title in titles.items():
        rows = {
            name: [
                f"{value:.1%}\n{100 * low:.1f}–{high:.1%}"
                for value, (low, high) in zip(found[key], found[f"{key}_interval"], strict=True)
            ]
            for name, found in policies.items()
        }
        _print_steps(console, f"{title}, 95% intervals ({where})", rows, first_step=0)
    titles = {
        "share_of_gain": f"Share of what the {results['reference']} policy gains over the glance",
        "centred": f"Patches whose centre is on the object ({results['objects']})",
        "covered": "Share of the object covered so far",
    }
    for key, title in titles.items():
        rows = {
            name: ["–" if value is None else f"{value:.1%}" for value in found[key]]
            for name, found in policies.items()
            if key in found
        }
        if rows:
            _print_steps(console, title, rows, first_step=1)
    for name, found in policies.items():
        if "over_random" in found:
            low, high = found["over_random"]["interval"]
            difference = found["over_random"]["difference"]
            console.print(
                f"{name} over random patches, last step: {difference:+.1%} "
                f"({low:+.1%} to {high:+.1%})"
            )


def _print_steps(
    console: Console, title: str, rows: Mapping[str, Sequence[str]], first_step: int
) -> None:
    steps = len(next(iter(rows.values())))
    numbers = range(first_step, first_step + steps)
    names = [f"focus {number}" if number else "glance" for number in numbers]
    table = Table("policy", *names, title=title)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def write_comparison(results: Mapping[str, Any], path: Path) -> None:
    """Write one row for every policy and step; cells of what is not known stay empty."""
    header = ["policy", "step", "images", "accuracy", "accuracy_low", "accuracy_high"]
    header += ["label_confidence", "label_confidence_low", "label_confidence_high"]
    per_focus_step = ["share_of_gain", "centred", "covered"]
    rows = []
    for name, found in results["policies"].items():
        for step in range(len(found["accuracy"])):
            row = [name, step, found["images"]]
            for key in ("accuracy", "label_confidence"):
                row += [found[key][step], *found[f"{key}_interval"][step]]
            known = (
                found[key][step - 1] if step and key in found else "" for key in per_focus_step
            )
            rows.append([*row, *("" if value is None else value for value in known)])
    write_rows([*header, *per_focus_step], rows, path)


def plot_comparison(results: Mapping[str, Any], path: Path) -> None:
    """Plot accuracy and confidence in the true class per step, with the intervals."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    both = figure.subplots(1, 2)
    for axes, key in zip(both, ("accuracy", "label_confidence"), strict=True):
        for name, found in results["policies"].items():
            low, high = np.array(found[f"{key}_interval"]).T
            steps = np.arange(len(low))
            dashed = "--" if name in BOUNDS else "-"
            (line,) = axes.plot(steps, found[key], dashed, marker="o", label=name)
            axes.fill_between(steps, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
        axes.set_xticks(steps)
        axes.set(xlabel="focus steps", ylabel=key.replace("label_", "").replace("_", " "))
        axes.grid(alpha=0.3)
    both[0].set_title(f"Accuracy on the {results['split']} split")
    both[1].set_title("Confidence in the true class")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside right center")
    save_figure(figure, path)


def draw_trajectories(
    network: GlanceFocusNetwork,
    policies: Mapping[str, Policy],
    images: ImageSet,
    indices: npt.NDArray[np.int64],
    path: Path,
) -> None:
    """Draw the patches of every policy: a row for each, and in it the same images.

    Args:
        network: What looks.
        policies: By name.
        images: The set.
        indices: Which of its images to draw, (S,).
        path: The picture's file.
    """
    frames = [
        frame
        for policy in policies.values()
        for frame in _trajectories(network, policy, images, indices)
    ]
    draw_frames(frames, path, columns=len(indices), row_names=list(policies))


@torch.no_grad()
def _trajectories(
    network: GlanceFocusNetwork,
    policy: Policy,
    images: ImageSet,
    indices: npt.NDArray[np.int64],
) -> list[npt.NDArray[np.uint8]]:
    (batch,) = batches(images, len(indices), indices, network.device)
    state = initial_state(policy, scene_of(network, batch))
    steps = list(unroll(network, policy, batch.pixels, state))
    trails = torch.stack([step.location for step in steps[1:]], dim=1).cpu()
    columns = (batch.labels, steps[-1].classes, steps[-1].confidence)
    answers = zip(*(column.tolist() for column in columns), strict=True)
    names = network.config.class_names
    return [
        draw_trajectory(network, pixels, trail, caption(names, predicted, label, confidence))
        for pixels, trail, (label, predicted, confidence) in zip(
            batch.pixels, trails, answers, strict=True
        )
    ]
