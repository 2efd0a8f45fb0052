"""What a comparison of ways to learn gives: its results, tables and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gfnet_agents import markdown
from gfnet_agents.curve import LearningPoint
from gfnet_env.benchmarks.report import save_figure, write_rows
from gfnet_env.benchmarks.results import Interval, Result
from gfnet_env.files import write_json, write_text

_Steps = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunResult(Result):
    """What one run gave.

    Attributes:
        schedule: Name of the way it learned.
        seed: Of the run.
        environment_steps: Steps that it learned from.
        seconds: That it took.
        accuracy: On the test images, one per step.
        curve: What was learned so far, on validation images, while it learned.
    """

    schedule: str
    seed: int
    environment_steps: int
    seconds: float
    accuracy: _Steps
    curve: tuple[LearningPoint, ...]


@dataclass(frozen=True, kw_only=True)
class ScheduleResult(Result):
    """What all runs of one way to learn gave.

    Attributes:
        accuracy: Per step, the mean over seeds.
        interquartile_mean: Over seeds, of the accuracy at the last step.
        interval: Its 95% interval; None of one seed.
        beats: How likely one of its runs is better than one of each other schedule, by name.
        above_random: Accuracy at the last step less that of random looks.
        above_random_interval: Its 95% interval over the originals that test images were made from.
        share_of_target_gain: What the first look gains over the glance, as a share of what looks
            at the object gain; None where nobody knows the objects, or they gain nothing.
        bounds: As of ``ComparisonResult``, of its own network; None where it has the common one.
    """

    accuracy: _Steps
    interquartile_mean: float
    interval: Interval | None = None
    beats: Mapping[str, float]
    above_random: float
    above_random_interval: Interval
    share_of_target_gain: float | None = None
    bounds: Mapping[str, _Steps] | None = None


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """What a comparison gave.

    Attributes:
        split: Of the images.
        images: How many there are.
        bounds: Accuracy per step of random looks and, where the images know their objects, of looks
            at those, on the common network.
        schedules: By name.
        runs: Each seed of each schedule.
        provenance: See ``provenance``.
    """

    split: str
    images: int
    bounds: Mapping[str, _Steps]
    schedules: Mapping[str, ScheduleResult]
    runs: tuple[RunResult, ...]
    provenance: Mapping[str, Any]

    def all_bounds(self) -> dict[str, _Steps]:
        """Bounds by name, those of schedules with networks of their own included if they differ."""
        bounds = dict(self.bounds)
        for name, found in self.schedules.items():
            for kind, accuracy in (found.bounds or {}).items():
                if accuracy != self.bounds[kind]:
                    bounds[f"{kind}, {name}"] = accuracy
        return bounds

    def runs_of(self, schedule: str) -> list[RunResult]:
        """The runs of one schedule."""
        return [run for run in self.runs if run.schedule == schedule]


def write_report(results: ComparisonResult, folder: Path) -> None:
    """Write results.json, README.md, table.csv and curves.png into a folder.

    Args:
        results: Of ``compare_schedules``.
        folder: Where; made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results.to_json())
    write_text(folder / "README.md", _markdown(results))
    _write_table(results, folder / "table.csv")
    _plot(results, folder / "curves.png")


def print_table(results: ComparisonResult, console: Console) -> None:
    """Print the table of a comparison."""
    table = Table(
        "learned by",
        "glance",
        *_looks(results),
        "interquartile mean",
        "above random",
        title=f"Accuracy on {results.images} {results.split} images, mean over seeds",
    )
    for name, accuracy in results.all_bounds().items():
        table.add_row(name, *_percent(accuracy), "", "")
    for name, found in results.schedules.items():
        middle = f"{found.interquartile_mean:.1%}"
        if found.interval:
            low, high = found.interval
            middle += f" ({low:.1%} to {high:.1%})"
        low, high = found.above_random_interval
        above = f"{found.above_random:+.1%} ({low:+.1%} to {high:+.1%})"
        table.add_row(name, *_percent(found.accuracy), middle, above)
    console.print(table)


def _markdown(results: ComparisonResult) -> str:
    """Accuracy per step, over seeds."""
    share = ["of the target's gain at look 1"] * ("target" in results.bounds)
    lines = [
        f"Accuracy on {results.images:,} {results.split} images, mean over seeds (in brackets the "
        "lowest and the highest of the last step).",
        "",
        *markdown.header("learned by", "glance", *_looks(results), *share),
    ]
    for name, accuracy in results.all_bounds().items():
        lines.append(markdown.row(f"*{name}*", *_percent(accuracy), *("" for _ in share)))
    for name, found in results.schedules.items():
        cells = _percent(found.accuracy)
        last = [run.accuracy[-1] for run in results.runs_of(name)]
        cells[-1] += f" ({min(last):.1%} – {max(last):.1%})" * (len(last) > 1)
        if share:
            reached = found.share_of_target_gain
            cells.append("–" if reached is None else f"{reached:.1%}")
        lines.append(markdown.row(name, *cells))
    seeds = sorted({run.seed for run in results.runs})
    seconds = sum(run.seconds for run in results.runs)
    most = max(run.environment_steps for run in results.runs)
    origin = markdown.signature([results.provenance], seeds, [seconds])
    return "\n".join([*lines, "", f"{most:,} environment steps a run. {origin}"]) + "\n"


def _looks(results: ComparisonResult) -> list[str]:
    return [f"look {number}" for number in range(1, len(results.bounds["random"]))]


def _percent(accuracy: Sequence[float]) -> list[str]:
    return [f"{value:.1%}" for value in accuracy]


def _write_table(results: ComparisonResult, path: Path) -> None:
    steps = (f"step {number}" for number in range(len(results.bounds["random"])))
    rows = [
        [run.schedule, run.seed, run.environment_steps, run.seconds, *run.accuracy]
        for run in results.runs
    ]
    write_rows(["schedule", "seed", "steps", "seconds", *steps], rows, path)


def _plot(results: ComparisonResult, path: Path) -> None:
    """Accuracy at the last step against environment steps: mean and range over seeds."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    # The usual ten colours are fewer than there are learners.
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)))
    for name in results.schedules:
        curves = [run.curve for run in results.runs_of(name)]
        # Seeds of one schedule are evaluated at the same steps, unless one stopped early.
        length = min(map(len, curves))
        steps = [point.steps for point in curves[0][:length]]
        last = np.array([[point.accuracy[-1] for point in curve[:length]] for curve in curves])
        (line,) = axes.plot(steps, last.mean(axis=0), label=name)
        low, high = last.min(axis=0), last.max(axis=0)
        axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    for name, accuracy in results.bounds.items():
        axes.axhline(accuracy[-1], color="gray", linestyle=":" if name == "random" else "--")
        axes.annotate(name, (0, accuracy[-1]), (2, 3), textcoords="offset points", color="gray")
    axes.set(xlabel="environment steps", ylabel="accuracy at the last step")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    save_figure(figure, path)
