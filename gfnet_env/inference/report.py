"""Results as a table and as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_env.data import ImageSet
from gfnet_env.env.rendering import caption, draw_trajectory
from gfnet_env.files import write_atomically
from gfnet_env.inference.early_exit import EarlyExitGFNet

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
        dashed = "--" if name in ("target", "oracle") else "-"
        by_step.plot(policy["accuracy"], dashed, marker="o", label=name)
    by_step.set(xlabel="focus steps", ylabel=f"{results['split']} accuracy")
    by_step.set_xticks(range(len(results["multiply_adds"])))
    by_step.set_title("Policies, no exits")
    by_step.legend()

    cost = np.array(results["multiply_adds"]) / 1e6
    by_cost.plot(cost, results["policies"]["learned"]["accuracy"], marker="o", label="all steps")
    points = sorted(
        (point["multiply_adds"] / 1e6, point["accuracy"]) for point in results["early_exit"]
    )
    by_cost.plot(*zip(*points, strict=True), marker=".", label="early exit")
    by_cost.set(xlabel="mean multiply-adds per image (millions)")
    by_cost.set_title("Learned policy")
    by_cost.legend()
    for axes in (by_step, by_cost):
        axes.grid(alpha=0.3)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def draw_sheet(
    gfnet: EarlyExitGFNet, images: ImageSet, indices: npt.NDArray[np.int64], path: Path
) -> None:
    """Draw images with the patches that were looked at before the exit.

    Args:
        gfnet: The assembled network.
        images: The set.
        indices: Which of its images to draw, (S,).
        path: The picture's file.
    """
    pixels = images[indices]
    prediction = gfnet(pixels.to(gfnet.network.device))
    rows = -(-len(indices) // _SHEET_COLUMNS)
    figure = Figure(figsize=(2.2 * _SHEET_COLUMNS, 2.4 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, _SHEET_COLUMNS)).ravel()
    for axes in grid:
        axes.axis("off")
    for row, axes in zip(range(len(indices)), grid, strict=False):
        text = caption(
            gfnet.network.config.class_names,
            int(prediction.classes[row]),
            int(images.labels[indices[row]]),
            float(prediction.confidence[row]),
        )
        taken = prediction.locations[row, : int(prediction.exit_step[row])].cpu()
        axes.imshow(draw_trajectory(gfnet.network, pixels[row], taken, text))
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))
