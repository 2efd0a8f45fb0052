"""The results of a study, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_env import markdown
from gfnet_env.benchmarks.report import step_names
from gfnet_env.benchmarks.results import BudgetPoint, Comparison, Latency, Result, StaticRow
from gfnet_env.files import replacing, write_json, write_text

_Steps = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class GFNetResult(Result):
    """One trained GFNet on the test images.

    Attributes:
        multiply_adds: Multiply-adds of an image that exits at each step.
        stages: Accuracy per step, after each stage.
        policies: Accuracy per step of the last stage, by the name of the policy.
        centred: See ``PolicyResult``, for the learned policy.
        comparison: See ``Evaluation``.
        budgeted: See ``Evaluation``.
        latency: Wall times; None if they were not measured.
    """

    multiply_adds: tuple[int, ...]
    stages: Mapping[str, _Steps]
    policies: Mapping[str, _Steps]
    centred: tuple[float | None, ...] | None = None
    comparison: Mapping[str, Comparison]
    budgeted: Mapping[str, tuple[BudgetPoint, ...]]
    latency: Latency | None = None


@dataclass(frozen=True, kw_only=True)
class SeedResult(Result):
    """One seed of a study; ``images`` is the number of test images.

    Attributes:
        seconds: Duration of everything except measuring wall times.
        static: Static networks, by rising cost.
        gfnets: Results by patch size.
        provenance: See ``provenance``.
    """

    seed: int
    seconds: float
    images: int
    static: tuple[StaticRow, ...]
    gfnets: Mapping[str, GFNetResult]
    provenance: Mapping[str, Any]

    @property
    def is_timed(self) -> bool:
        """Whether the wall times of all GFNets are known."""
        return all(found.latency for found in self.gfnets.values())


@dataclass(frozen=True, kw_only=True)
class StudyResult(Result):
    """The content of results.json of a study, with ``runs`` by rising seed; see ``Study``."""

    title: str
    settings: Mapping[str, Any]
    runs: tuple[SeedResult, ...]
    published: Mapping[str, str]


def write_report(results: StudyResult, folder: Path) -> str:
    """Write results.json and README.md into a folder, made if missing.

    Returns:
        The text of README.md.
    """
    text = _tables(results)
    with replacing(folder) as new:
        write_json(new / "results.json", results.to_json())
        write_text(new / "README.md", text)
    return text


def _tables(results: StudyResult) -> str:
    """Static networks, then for each GFNet test error per step, early exits and wall time."""
    runs = results.runs
    seeds = len(runs)
    lines = [
        f"# {results.title}",
        "",
        f"Test error on {runs[0].images:,} images, mean of {seeds} seed{'s' * (seeds > 1)} "
        "(in brackets the lowest and the highest).",
        "",
        *markdown.header("whole image", "test error", "multiply-adds"),
    ]
    for networks in zip(*(run.static for run in runs), strict=True):
        side, cost = networks[0].resolution, _millions(networks[0].multiply_adds)
        error = _error([network.accuracy for network in networks])
        lines.append(markdown.row(f"static, {side}×{side}", error, cost))
    if results.published:
        lines += ["", *markdown.header("published", "test error")]
        lines += [markdown.row(name, error) for name, error in results.published.items()]
    for side in runs[0].gfnets:
        found = [run.gfnets[side] for run in runs]
        lines += ["", f"## P = {side}", "", *_steps(found), "", *_budgets(found)]
        lines += ["", *_exits(runs, side)]
        timed = [(run.gfnets[side].latency, run.seed) for run in runs]
        wall_times = (_wall_times(latency, seed) for latency, seed in timed if latency)
        lines += next(wall_times, [])
    made, seconds = [run.provenance for run in runs], [run.seconds for run in runs]
    lines += ["", markdown.signature(made, [run.seed for run in runs], seconds)]
    return "\n".join(lines) + "\n"


def _steps(found: Sequence[GFNetResult]) -> list[str]:
    """Error per step of one GFNet: of its last stage under every policy, and of all stages."""
    costs = found[0].multiply_adds
    lines = [
        *markdown.header("", *step_names(len(costs))),
        markdown.row("*multiply-adds*", *(_millions(cost) for cost in costs)),
    ]
    rows = {f"{name} looks": [each.policies[name] for each in found] for name in found[0].policies}
    rows |= {f"after {name}": [each.stages[name] for each in found] for name in found[0].stages}
    for name, seen in rows.items():
        cells = (_error(accuracies) for accuracies in zip(*seen, strict=True))
        lines.append(markdown.row(name, *cells))
    return lines


def _budgets(found: Sequence[GFNetResult]) -> list[str]:
    """Error with early exits at each budget, except budgets that change nothing."""
    lines = [
        "Early exits, thresholds solved on `val` for geometric exit shares:",
        "",
        *markdown.header("budget", "multiply-adds spent", "test error"),
    ]
    before = None
    for points in zip(*(each.budgeted["geometric"] for each in found), strict=True):
        error = _error([point.accuracy for point in points])
        if error != before:
            spent = float(np.mean([point.multiply_adds for point in points]))
            lines.append(markdown.row(_millions(points[0].budget), _millions(spent), error))
        before = error
    return lines


def _exits(runs: Sequence[SeedResult], side: str) -> list[str]:
    """How much cheaper early exits, chosen on ``val``, are than the static network."""
    static = runs[0].static[-1]
    lines = [
        f"Early exits against the whole image at {static.resolution}×{static.resolution} "
        f"({_millions(static.multiply_adds)} multiply-adds), chosen on `val` to be as "
        "accurate or within its 95% interval:",
        "",
        *markdown.header(
            "seed", "exits", "static error", "chosen to be", "error", "fewer multiply-adds"
        ),
    ]
    for run in runs:
        error = f"{1 - run.static[-1].accuracy:.2%}"
        for method, found in run.gfnets[side].comparison.items():
            points = {"as accurate": found.at_accuracy, "within": found.within_interval}
            for name, point in points.items():
                cells = ("–", "never")
                if point:
                    cells = (f"{1 - point.accuracy:.2%}", f"{point.factor:.1f}×")
                lines.append(markdown.row(str(run.seed), method, error, name, *cells))
    return lines


def _wall_times(latency: Latency, seed: int) -> list[str]:
    """How many times faster than the static network, by operating point, engine and batch size."""
    names = (
        f"{point.name}, {_millions(point.multiply_adds)}, error {1 - point.accuracy:.2%}"
        for point in latency.points
    )
    lines = [
        "",
        f"Times faster than the whole image, medians (seed {seed}):",
        "",
        *markdown.header("engine", "threads", "images a batch", *names),
    ]
    for timing in latency.timings:
        medians = (f"{point.speedup.median:.1f}×" for point in timing.points)
        where = (timing.engine, str(timing.threads), str(timing.batch_size))
        lines.append(markdown.row(*where, *medians))
    return lines


def _millions(multiply_adds: float) -> str:
    return f"{multiply_adds / 1e6:.1f} M"


def _error(accuracies: Sequence[float]) -> str:
    """The mean of several accuracies, as an error, with its range."""
    text = f"{1 - float(np.mean(accuracies)):.2%}"
    if len(accuracies) == 1:
        return text
    return f"{text} ({1 - max(accuracies):.2%} – {1 - min(accuracies):.2%})"
