"""Studies: everything that a published table needs, in one command and over several seeds."""

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gfnet_agents import markdown
from gfnet_agents.pipeline import PipelineConfig, train_gfnet
from gfnet_env.benchmarks import (
    ComparisonConfig,
    EvaluationConfig,
    compare_policies,
    evaluate,
)
from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency
from gfnet_env.data import ImageSet, ReadingOptions
from gfnet_env.files import read_json, write_json, write_text
from gfnet_env.runs import create_run, provenance, resume_run, save_config, values_of
from gfnet_env.training import BaselineConfig, train_baselines
from gfnet_env.training.config import MAY_CHANGE, RunControl

_PICTURES = {"evaluation/accuracy.png": "curves.png", "policies/trajectories.png": "patches.png"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a recipe trains, and what others have published.

    Attributes:
        title: Of its table.
        static: Whole-image baselines, trained first, so that ``gfnet`` may begin with them.
        gfnet: All three stages.
        begin_with_static: Whether the encoders begin as the static networks.
        published: Of others: name, and test error.
        oracle_images: Test images that the oracle is run on.
        timed: Whether wall times are measured, of the first seed.
    """

    title: str
    static: BaselineConfig
    gfnet: PipelineConfig
    begin_with_static: bool = True
    published: Mapping[str, str] = field(default_factory=dict)
    oracle_images: int = 500
    timed: bool = True


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ReadingOptions, RunControl):
    """Where a study works, and how often."""

    run: Path
    """Folder for everything that is trained."""
    out: Path
    """Folder for the tables and pictures."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """All of it is done once for each."""

    def __post_init__(self) -> None:
        RunControl.__post_init__(self)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different numbers of at least 0, not {self.seeds}")


def run_study(
    study: Study, options: StudyOptions, image_sets: Mapping[str, ImageSet] | None = None
) -> dict[str, Any]:
    """Train, measure and write results.json, README.md and pictures into ``options.out``.

    With ``options.resume`` what is complete is left alone, and what was interrupted goes on.

    Args:
        study: What to train.
        options: Where and how often.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of the study's.

    Returns:
        What results.json holds: for each seed the error per step of every policy, multiply-adds per
        step, the static networks, and how much cheaper an early exit is at their accuracy.

    Raises:
        FileExistsError: The run folder exists, and neither overwriting nor resuming was asked for.
        ValueError: A value is wrong, or the run to be resumed was begun with others.
    """
    console = Console()
    if not (options.resume and resume_run(options.run, options, MAY_CHANGE | {"out", "seeds"})):
        create_run(options.run, overwrite=options.overwrite or options.resume)
        save_config(options.run, options)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in options.seeds:
        console.rule(f"seed {seed}")
        runs.append(_run_seed(study, options, seed, image_sets))
    results = {
        "title": study.title,
        "runs": runs,
        "mean": _mean(runs),
        "published": dict(study.published),
        # The command would name this machine's folders.
        "provenance": {key: value for key, value in provenance().items() if key != "command"},
    }
    first = _assembled(options.run / f"seed-{options.seeds[0]}" / "gfnet")
    for source, name in _PICTURES.items():
        shutil.copyfile(first / source, options.out / name)
    write_json(options.out / "results.json", results)
    text = _tables(results)
    write_text(options.out / "README.md", text)
    console.print(text)
    return results


def _run_seed(
    study: Study, options: StudyOptions, seed: int, image_sets: Mapping[str, ImageSet] | None
) -> dict[str, Any]:
    """Train and measure once; what was measured before comes from its file."""
    folder = options.run / f"seed-{seed}"
    written = folder / "measured.json"
    if options.resume and written.is_file():
        return read_json(written)
    started = time.monotonic()
    # Whether the study begins anew, its own folder says.
    shared = values_of(options, ReadingOptions) | values_of(options, RunControl)
    shared |= {"resume": True, "overwrite": False, "seed": seed}
    static = dataclasses.replace(study.static, run=folder / "static", **shared)
    train_baselines(static, image_sets)
    begun: dict[str, Any] = {"baseline": static.run} if study.begin_with_static else {}
    gfnet = dataclasses.replace(study.gfnet, run=folder / "gfnet", **begun, **shared)
    train_gfnet(gfnet, image_sets)
    measured = values_of(options, ReadingOptions)
    measured |= {"run": _assembled(gfnet.run), "device": options.device, "overwrite": True}
    test = image_sets["test"] if image_sets else None
    evaluated = evaluate(EvaluationConfig(baseline=static.run, seed=seed, **measured), image_sets)
    compared = compare_policies(
        ComparisonConfig(oracle_images=study.oracle_images, seed=seed, **measured), test
    )
    latency = None
    if study.timed and seed == options.seeds[0]:
        latency = measure_latency(LatencyConfig(baseline=static.run, seed=seed, **measured), test)
    stages = read_json(gfnet.run / "results.json")["stages"]
    results = {
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "images": compared["images"],
        "multiply_adds": [row["multiply_adds"] for row in evaluated["anytime"]],
        "stages": {name: stage["accuracy"] for name, stage in stages.items()},
        "policies": {name: found["accuracy"] for name, found in compared["policies"].items()},
        "centred": compared["policies"]["learned"].get("centred"),
        "static": evaluated["static"],
        "comparison": evaluated["comparison"],
        "budgeted": evaluated["budgeted"],
        "latency": latency,
    }
    write_json(written, results)
    return results


def _assembled(gfnet: Path) -> Path:
    """The run folder of the last stage that has a policy."""
    return gfnet / ("stage3" if (gfnet / "stage3" / "results.json").is_file() else "stage2")


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of what the table shows."""

    def mean(rows: Sequence[Sequence[float]]) -> list[float]:
        return np.mean(rows, axis=0).round(6).tolist()

    return {
        "policies": {
            name: mean([run["policies"][name] for run in runs]) for name in runs[0]["policies"]
        },
        "static": {
            str(row["resolution"]): mean([[run["static"][number]["accuracy"]] for run in runs])[0]
            for number, row in enumerate(runs[0]["static"])
        },
    }


def _tables(results: Mapping[str, Any]) -> str:
    """The tables of a study: test error per step, static networks, early exit, wall time."""
    runs, mean = results["runs"], results["mean"]
    steps = range(1, len(runs[0]["multiply_adds"]))
    seeds = len(runs)
    lines = [
        f"# {results['title']}",
        "",
        f"Test error on {runs[0]['images']:,} images, mean of {seeds} seed{'s' * (seeds > 1)} "
        "(in brackets the lowest and the highest).",
        "",
        *markdown.header(
            "network", "glance or whole image", *(f"{number} patches" for number in steps)
        ),
    ]
    for name, accuracy in mean["policies"].items():
        spread = zip(*(run["policies"][name] for run in runs), strict=True)
        cells = (_error(each, seen) for each, seen in zip(accuracy, spread, strict=True))
        lines.append(markdown.row(f"{name} patches", *cells))
    for number, (side, accuracy) in enumerate(mean["static"].items()):
        seen = [run["static"][number]["accuracy"] for run in runs]
        lines.append(
            markdown.row(f"static, {side}×{side}", _error(accuracy, seen), *("" for _ in steps))
        )
    costs = (f"{cost / 1e6:.1f} M" for cost in runs[0]["multiply_adds"])
    lines += [
        markdown.row("*multiply-adds*", *costs),
        "",
        *markdown.header("published", "test error"),
    ]
    lines += [markdown.row(name, error) for name, error in results["published"].items()]
    lines += ["", *_exits(runs), ""]
    if runs[0]["latency"]:
        lines += [*_wall_times(runs[0]["latency"]), ""]
    seconds = [run["seconds"] for run in runs]
    lines.append(markdown.signature(results, [run["seed"] for run in runs], seconds))
    return "\n".join(lines) + "\n"


def _exits(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much cheaper early exits, chosen on ``val``, are than the static network."""
    static = runs[0]["static"][-1]
    lines = [
        f"Early exits against the whole image at {static['resolution']}×{static['resolution']} "
        f"({static['multiply_adds'] / 1e6:.1f} M multiply-adds), chosen on `val` to be as "
        "accurate or within its 95% interval:",
        "",
        *markdown.header(
            "seed", "exits", "static error", "chosen to be", "error", "fewer multiply-adds"
        ),
    ]
    for run in runs:
        error = f"{1 - run['static'][-1]['accuracy']:.2%}"
        for method, found in run["comparison"].items():
            for key, name in (("at_accuracy", "as accurate"), ("within_interval", "within")):
                point = found[key]
                cells = ("–", "never")
                if point:
                    cells = (f"{1 - point['accuracy']:.2%}", f"{point['factor']:.1f}×")
                lines.append(markdown.row(str(run["seed"]), method, error, name, *cells))
    return lines


def _wall_times(latency: Mapping[str, Any]) -> list[str]:
    """How many times faster than the static network, by engine and batch size."""
    timings = latency["timings"]
    names = (f"{timing['engine']}, batches of {timing['batch_size']}" for timing in timings)
    lines = [
        "Times faster than the whole image, medians (first seed):",
        "",
        *markdown.header("operating point", "error", *names),
    ]
    for number, point in enumerate(latency["points"]):
        name = f"{point['name']}, {point['multiply_adds'] / 1e6:.1f} M"
        medians = (timing["points"][number]["speedup"]["median"] for timing in timings)
        error = f"{1 - point['accuracy']:.2%}"
        lines.append(markdown.row(name, error, *(f"{median:.1f}×" for median in medians)))
    return lines


def _error(accuracy: float, seen: Sequence[float]) -> str:
    text = f"{1 - accuracy:.2%}"
    return text if len(seen) == 1 else f"{text} ({1 - max(seen):.2%} – {1 - min(seen):.2%})"
