"""What a comparison of schedules leaves: tables and a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_agents import markdown
from gfnet_env.benchmarks.report import save_figure, write_rows
from gfnet_env.files import write_json, write_text


def write_report(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json, README.md, table.csv and curves.png into a folder.

    Args:
        results: Of ``compare_schedules``.
        folder: Where; made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
    write_text(folder / "README.md", _markdown(results))
    _write_table(results, folder / "table.csv")
    _plot(results, folder / "curves.png")


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """Print the table of a comparison."""
    steps = range(1, len(results["bounds"]["random"]))
    table = Table(
        "learned by",
        "glance",
        *(f"focus {number}" for number in steps),
        "interquartile mean",
        "above random",
        title=f"Accuracy on {results['images']} {results['split']} images, mean over seeds",
    )
    for name, accuracy in _bounds(results).items():
        table.add_row(name, *(f"{value:.1%}" for value in accuracy), "", "")
    for name, row in results["schedules"].items():
        middle = f"{row['interquartile_mean']:.1%}"
        if row["interval"]:
            low, high = row["interval"]
            middle += f" ({low:.1%} to {high:.1%})"
        low, high = row["above_random_interval"]
        above = f"{row['above_random']:+.1%} ({low:+.1%} to {high:+.1%})"
        table.add_row(name, *(f"{value:.1%}" for value in row["accuracy"]), middle, above)
    console.print(table)


def _markdown(results: Mapping[str, Any]) -> str:
    """Accuracy per step, over seeds."""
    runs, bounds = results["runs"], results["bounds"]
    steps = range(1, len(bounds["random"]))
    share = ["of the target's gain at focus 1"] * ("target" in bounds)
    lines = [
        f"Accuracy on {results['images']:,} {results['split']} images, mean over seeds (in "
        "brackets the lowest and the highest of the last step).",
        "",
        *markdown.header("learned by", "glance", *(f"focus {number}" for number in steps), *share),
    ]
    for name, accuracy in _bounds(results).items():
        cells = [f"{value:.1%}" for value in accuracy]
        lines.append(markdown.row(f"*{name}*", *cells, *("" for _ in share)))
    for name, found in results["schedules"].items():
        cells = [f"{value:.1%}" for value in found["accuracy"]]
        last = [run["accuracy"][-1] for run in runs if run["schedule"] == name]
        cells[-1] += f" ({min(last):.1%} – {max(last):.1%})" * (len(last) > 1)
        if share:
            reached = found["share_of_target_gain"]
            cells.append("–" if reached is None else f"{reached:.1%}")
        lines.append(markdown.row(name, *cells))
    seeds = sorted({run["seed"] for run in runs})
    seconds = sum(run["seconds"] for run in runs)
    most = max(run["environment_steps"] for run in runs)
    origin = markdown.signature([results["provenance"]], seeds, [seconds])
    lines += [
        "",
        f"{most:,} environment steps a run. {origin}",
    ]
    return "\n".join(lines) + "\n"


def _bounds(results: Mapping[str, Any]) -> dict[str, list[float]]:
    """Accuracy per step that learned policies lie between, also of networks that differ."""
    common: dict[str, list[float]] = results["bounds"]
    bounds = dict(common)
    for name, found in results["schedules"].items():
        for kind, accuracy in found.get("bounds", {}).items():
            if accuracy != common[kind]:
                bounds[f"{kind}, {name}"] = accuracy
    return bounds


def _write_table(results: Mapping[str, Any], path: Path) -> None:
    steps = (f"step {number}" for number in range(len(results["bounds"]["random"])))
    columns = ("schedule", "seed", "environment_steps", "seconds")
    rows = [[*(run[column] for column in columns), *run["accuracy"]] for run in results["runs"]]
    write_rows(["schedule", "seed", "steps", "seconds", *steps], rows, path)


def _plot(results: Mapping[str, Any], path: Path) -> None:
    """Accuracy at the last step against environment steps: mean and range over seeds."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    # The usual ten colours are fewer than there are algorithms.
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)))
    for name in results["schedules"]:
        curves = [run["curve"] for run in results["runs"] if run["schedule"] == name]
        # Seeds of one schedule are evaluated at the same steps, unless one stopped early.
        length = min(map(len, curves))
        steps = [point["steps"] for point in curves[0][:length]]
        last = np.array([[point["accuracy"][-1] for point in curve[:length]] for curve in curves])
        (line,) = axes.plot(steps, last.mean(axis=0), label=name)
        low, high = last.min(axis=0), last.max(axis=0)
        axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    for name, accuracy in results["bounds"].items():
        axes.axhline(accuracy[-1], color="gray", linestyle=":" if name == "random" else "--")
        axes.annotate(name, (0, accuracy[-1]), (2, 3), textcoords="offset points", color="gray")
    axes.set(xlabel="environment steps", ylabel="accuracy at the last step")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    save_figure(figure, path)
