"""Megapixel MNIST: five digits among noise, on canvases of 1500×1500 and 3000×3000.

python experiments/recipes/megapixel.py --run runs/megapixel --out experiments/results/megapixel

Networks learn on mined windows and follow their where-map. They are compared with all windows of a
lattice, through the same encoder, and with published patch-based multiple-instance learning (IPS,
Bergner et al., ICLR 2023), which encodes all windows too.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gfnet_agents.markdown import header, row, signature
from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import ComparisonConfig, compare_policies
from gfnet_env.benchmarks.results import PolicyResult
from gfnet_env.command_line import parse
from gfnet_env.files import read_json, write_json, write_text
from gfnet_env.images import ReadingOptions
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import RunControl, provenance
from gfnet_env.settings import Flat, Settings
from gfnet_env.training import ClassifierConfig, train_classifier

TaskName = Literal["majority", "max", "top", "majority-1000", "majority-3000"]

SCANS = ("scan", "scan:skip_empty=True")
# Test accuracies of IPS, from the logs of its authors.
PUBLISHED = {"majority": "99.1%", "max": "93.7%", "top": "92.7%", "majority-3000": "66.6%"}


@dataclass(frozen=True)
class Task:
    """A task, on pictures of some size.

    Attributes:
        images: Their spec.
        glance_size: Side of the glance, a sixth of theirs.
        epochs: Passes over them.
    """

    images: str
    glance_size: int = 250
    epochs: int = 20


TASKS: dict[TaskName, Task] = {
    "majority": Task("megapixel-mnist"),
    "max": Task("megapixel-mnist:task=max"),
    "top": Task("megapixel-mnist:task=top"),
    "majority-1000": Task("megapixel-mnist:train=1000", epochs=60),
    "majority-3000": Task("megapixel-mnist:side=3000,train=1000", glance_size=500, epochs=20),
}


@dataclass(frozen=True, kw_only=True)
class MegapixelOptions(Settings):
    """What to run, and where."""

    run: Path
    """Folder for all runs."""
    out: Path
    """Folder for the tables; seeds that its results.json holds already are kept."""
    tasks: tuple[TaskName, ...] = get_args(TaskName)
    """Tasks, with the number of training pictures or the side where they are not the common
    ones."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to repeat them with."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)


def main(options: MegapixelOptions) -> None:
    """Train and measure all networks, and write results.json and README.md after each."""
    path = options.out / "results.json"
    results: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {}
    for name in options.tasks:
        for seed in options.seeds:
            if str(seed) in results.setdefault(name, {}):
                continue
            results[name][str(seed)] = _run(TASKS[name], name, seed, options)
            write_json(path, results)
            write_text(options.out / "README.md", "\n".join(_report(results)) + "\n")


def config(task: Task, seed: int, run: Path, options: MegapixelOptions) -> ClassifierConfig:
    """How the network of a task is trained."""
    # On black canvases, running statistics that begin at the mean of photographs lag behind.
    glance = "compact:widths=[8,16,32],strides=[2,2,1],mean=[0,0,0]"
    return ClassifierConfig.of(
        run=run,
        images=task.images,
        glance_size=task.glance_size,
        glance_encoder=glance,
        encoder="compact:mean=[0,0,0]",
        patch_size=56,
        focus_steps=5,
        classifier="evidence",
        windows="mined",
        where_loss=10.0,
        encoder_loss=1.0,
        epochs=task.epochs,
        batch_size=32,
        learning_rate=2e-3,
        seed=seed,
        reading=options.reading,
        control=options.control.replace(resume=not options.control.overwrite),
    )


def _run(task: Task, name: str, seed: int, options: MegapixelOptions) -> dict[str, Any]:
    """Train and measure one network."""
    started = time.monotonic()
    folder = options.run / f"{name}-{seed}"
    train_classifier(config(task, seed, folder, options))
    compared = compare_policies(
        ComparisonConfig(
            run=folder,
            policies=("random", "learned", *SCANS),
            images=ImageOptions(reading=options.reading),
            overwrite=True,
        )
    )
    costs = EarlyExitGFNet.load(folder).multiply_adds
    return {
        "policies": {name: found.to_json() for name, found in compared.policies.items()},
        "multiply_adds": costs,
        "seconds": time.monotonic() - started,
        **provenance(command=False),
    }


def _report(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The lines of README.md."""
    yield from ("# Megapixel MNIST", "")
    yield from header(
        "task",
        "seeds",
        "heat",
        "random looks",
        "scan",
        "windows of a scan",
        "not empty",
        "fewer multiply-adds than scan",
        "than over windows that are not empty",
        "IPS",
    )
    for name, runs in results.items():
        measured = [_Measured(run) for run in runs.values()]
        shown = [
            np.mean([getattr(each, field) for each in measured])
            for field in ("heat", "random", "scan", "all_windows", "windows", "factor", "least")
        ]
        formats = ("{:.1%}",) * 3 + ("{:.0f}",) * 4
        cells = [form.format(value) for form, value in zip(formats, shown, strict=True)]
        yield row(name, str(len(runs)), *cells, PUBLISHED.get(name, ""))
    every = [run for each in results.values() for run in each.values()]
    seeds = sorted({int(seed) for each in results.values() for seed in each})
    yield from ("", signature(every, seeds, [run["seconds"] for run in every]))


class _Measured:
    """The figures of one run that the table shows."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        found = {name: PolicyResult.from_json(each) for name, each in run["policies"].items()}
        self.heat, self.random, self.scan = (
            found[name].accuracy[-1] for name in ("learned", "random", SCANS[0])
        )
        glance, first, *_, last = run["multiply_adds"]
        windows = [found[name].windows for name in SCANS]
        self.all_windows, self.windows = windows
        # A scan needs no glance: it costs its windows.
        self.factor, self.least = ((each or 0) * (first - glance) / last for each in windows)


if __name__ == "__main__":
    main(parse(MegapixelOptions, __doc__))
