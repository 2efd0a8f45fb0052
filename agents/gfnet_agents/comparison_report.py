"""The results of a comparison of schedules, as files, a table and a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_agents.curve import LearningPoint
from gfnet_env import markdown
from gfnet_env.benchmarks.report import new_figure, save_figure, step_names, write_rows
from gfnet_env.benchmarks.results import Interval, Result
from gfnet_env.files import replacing, write_json, write_text

_Steps = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunResult(Result):
    """One run, with ``accuracy`` per step on test images and ``curve`` on validation images."""

    schedule: str
    seed: int
    environment_steps: int
    seconds: float
    accuracy: _Steps
    curve: tuple[LearningPoint, ...]


@dataclass(frozen=True, kw_only=True)
class ScheduleResult(Result):
    """All runs of one schedule.

    Attributes:
        accuracy: Accuracy per step, mean over seeds.
        interquartile_mean: Interquartile mean over seeds of the accuracy at the last step.
        interval: The 95% interval of that mean; None for a single seed.
        beats: Probability that one of its runs beats a run of another schedule, by that schedule's
            name.
        above_random: Accuracy at the last step minus the accuracy of random looks.
        above_random_interval: The 95% interval of that difference, over the originals that test
            images were made from.
        share_of_target_gain: Gain of the first look over the glance, as a share of the gain of a
            look at the object; None if the object is unknown, or a look at it gains nothing.
        bounds: See ``ComparisonResult``, on the schedule's own network; None if it has the common
            one.
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
    """What ``compare_schedules`` found on the ``images`` (their number) of a ``split``.

    Attributes:
        bounds: Accuracy per step of the policy ``random`` on the common network and, if the images
            know their objects, of ``target``.
        schedules: Results of the schedules, by name.
        runs: Results of each seed of each schedule.
        provenance: See ``provenance``.
    """

    split: str
    images: int
    bounds: Mapping[str, _Steps]
    schedules: Mapping[str, ScheduleResult]
    runs: tuple[RunResult, ...]
    provenance: Mapping[str, Any]


def write_report(results: ComparisonResult, folder: Path) -> str:
    """Write results.json, README.md, table.csv and curves.png into a folder, made if missing.

    Returns:
        The text of README.md.
    """
    text = _table(results)
    steps = (f"step {number}" for number in range(len(results.bounds["random"])))
    rows = [
        [run.schedule, run.seed, run.environment_steps, run.seconds, *run.accuracy]
        for run in results.runs
    ]
    with replacing(folder) as new:
        write_json(new / "results.json", results.to_json())
        write_text(new / "README.md", text)
        write_rows(["schedule", "seed", "steps", "seconds", *steps], rows, new / "table.csv")
        _plot(results, new / "curves.png")
    return text


def _table(results: ComparisonResult) -> str:
    """Accuracy per step under the bounds and every schedule, in Markdown."""
    columns = ["IQM", "above random", "of the target's gain"]
    lines = [
        f"Accuracy on {results.images:,} {results.split} images, mean over seeds; of the last step "
        "the interquartile mean over seeds (IQM) and the paired difference to random looks, each "
        "with its 95% interval; of the first look the share of the target's gain.",
        "",
        *markdown.header("learned by", *step_names(len(results.bounds["random"])), *columns),
    ]
    bounds = dict(results.bounds)
    for name, found in results.schedules.items():
        own = (found.bounds or {}).items()
        bounds |= {f"{kind}, {name}": each for kind, each in own if each != results.bounds[kind]}
    lines += [
        markdown.row(f"*{name}*", *_percent(accuracy), "", "", "")
        for name, accuracy in bounds.items()
    ]
    for name, found in results.schedules.items():
        middle = f"{found.interquartile_mean:.1%}"
        if found.interval:
            low, high = found.interval
            middle += f" ({low:.1%} to {high:.1%})"
        low, high = found.above_random_interval
        above = f"{found.above_random:+.1%} ({low:+.1%} to {high:+.1%})"
        share = found.share_of_target_gain
        cells = (middle, above, "–" if share is None else f"{share:.1%}")
        lines.append(markdown.row(name, *_percent(found.accuracy), *cells))
    seeds = sorted({run.seed for run in results.runs})
    seconds = sum(run.seconds for run in results.runs)
    most = max(run.environment_steps for run in results.runs)
    origin = markdown.signature([results.provenance], seeds, [seconds])
    return "\n".join([*lines, "", f"{most:,} environment steps a run. {origin}"]) + "\n"


def _percent(accuracy: Sequence[float]) -> list[str]:
    return [f"{value:.1%}" for value in accuracy]


def _plot(results: ComparisonResult, path: Path) -> None:
    """Plot accuracy at the last step against environment steps: mean and range over seeds."""
    from matplotlib import colormaps

    figure = new_figure(10, 5)
    axes = figure.subplots()
    # There are more learners than the usual ten colours.
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)))
    for name in results.schedules:
        curves = [run.curve for run in results.runs if run.schedule == name]
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
