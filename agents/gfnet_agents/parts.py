"""Recipes in parts: each is run once for each seed, and its results are kept."""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from gfnet_env import EarlyExitGFNet
from gfnet_env.files import (
    check_writable,
    is_file,
    json_bytes,
    read_json,
    replacing,
    write_json,
    write_text,
)
from gfnet_env.images import ImageSet, ReadingOptions
from gfnet_env.markdown import signature
from gfnet_env.runs import RunControl, provenance
from gfnet_env.settings import AtLeast, Flat, Settings

# What each part does with a seed.
Parts = Mapping[str, Callable[[int], Mapping[str, Any]]]
# Results by part, then by seed.
Results = dict[str, dict[str, dict[str, Any]]]
PartName = Literal["looks", "static"]


@dataclass(frozen=True, kw_only=True)
class PartsOptions(Settings):
    """What to run, and where."""

    run: Path
    """Folder for all runs."""
    out: Path
    """Folder for the tables; seeds that its results.json holds already are kept."""
    seeds: Annotated[tuple[int, ...], AtLeast(0)] = (0,)
    """Seeds to repeat it with."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.items():
            if value == () and name in ("seeds", "parts", "tasks", "algorithms"):
                raise ValueError(f"{name} is empty, so there is nothing to run; give some")

    @property
    def shared(self) -> dict[str, Any]:
        """Settings of all its runs, which go on where they were interrupted."""
        control = self.control.given() | {"resume": not self.control.overwrite}
        return self.reading.given() | control


@dataclass(frozen=True, kw_only=True)
class PhotographOptions(PartsOptions):
    """What to run on a folder of photographs, and where."""

    images: Path
    """Folder that holds train, val and test."""
    weights: str = "pretrained"
    """ImageNet's weights of tf_efficientnet_lite0: pretrained (downloaded), or a file."""
    parts: tuple[PartName, ...] = get_args(PartName)
    """What to run: networks that look, and static ones."""

    def open(self, split: str) -> ImageSet:
        """The photographs of a split, at their own sizes."""
        spec = f"folder:{self.images}"
        return self.reading.load(spec, split, image_size=224, seed=0, fit="whole")


def mean_exit(gfnet: EarlyExitGFNet, images: ImageSet) -> dict[str, float]:
    """Accuracy, looks and multiply-adds of early exits, means over some images."""
    found = gfnet.classify(images)
    return {
        "accuracy": float((found.classes == images.labels).double().mean()),
        "looks": float(found.exit_step.double().mean()),
        "multiply_adds": float(found.multiply_adds.double().mean()),
    }


def run_parts(
    out: Path,
    parts: Parts,
    seeds: Iterable[int],
    report: Callable[[Results], Iterable[str]],
) -> Results:
    """Run what ``out/results.json`` lacks, and write it and README.md after every part.

    Args:
        out: Folder of the tables.
        parts: Each maps a seed to its results, which JSON can hold; duration and provenance are
            added.
        seeds: Seeds to run each part with.
        report: The lines of README.md; a line about the origin of the results follows them.

    Raises:
        OSError: ``out`` cannot be written.
        ValueError: ``results.json`` holds something else, or JSON cannot hold what a part found.
    """
    check_writable(out)
    path = out / "results.json"
    results = _read(path) if is_file(path) else {}
    for seed, (name, run) in itertools.product(seeds, parts.items()):
        done = results.setdefault(name, {})
        if str(seed) in done:
            continue
        started = time.monotonic()
        found = run(seed)
        seconds = time.monotonic() - started
        done[str(seed)] = {**found, "seconds": seconds, **provenance(command=False)}
        try:
            json_bytes(results)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the results of the part {name!r} cannot be written as JSON: {error}"
            ) from error
        with replacing(out) as new:
            write_json(new / path.name, results)
            write_text(new / "README.md", "\n".join([*report(results), "", _origin(results)]))
    return results


def _read(path: Path) -> Results:
    """Earlier results; raises ``ValueError`` if they are no results of parts."""
    results: Results = read_json(path)
    for runs in results.values():
        if not isinstance(runs, dict) or not all(
            seed.isdecimal()
            and isinstance(run, dict)
            and {"seconds", "machine", "commit"} <= {*run}
            for seed, run in runs.items()
        ):
            raise ValueError(
                f"{path} holds something else than results of parts; restore it from a copy, or "
                "give another folder"
            )
    return results


def _origin(results: Results) -> str:
    made = [run for part in results.values() for run in part.values()]
    seconds: dict[int, float] = defaultdict(float)
    for part in results.values():
        for seed, run in part.items():
            seconds[int(seed)] += run["seconds"]
    seeds = sorted(seconds)
    return signature(made, seeds, [seconds[seed] for seed in seeds]) + "\n"
