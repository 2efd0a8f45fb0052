"""Studies: everything that a published table needs, in one command and over several seeds."""

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from gfnet_agents.pipeline import PipelineConfig, train_gfnet
from gfnet_agents.study_report import write_report
from gfnet_env.benchmarks import (
    ComparisonConfig,
    EvaluationConfig,
    compare_policies,
    evaluate,
)
from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency
from gfnet_env.data import ImageSet, ReadingOptions
from gfnet_env.files import read_json, write_json
from gfnet_env.runs import begin_or_resume, provenance, to_json, values_of
from gfnet_env.training import BaselineConfig, train_baselines
from gfnet_env.training.config import MAY_CHANGE, RunControl

_MEASURED = "measured.json"
_PICTURES = {"evaluation/accuracy.png": "curves", "policies/trajectories.png": "patches"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a recipe trains, and what others have published.

    Attributes:
        title: Of its table.
        static: Whole-image baselines, trained first, so that GFNets may begin with them.
        gfnets: All three stages of each GFNet, no two of one patch size.
        begin_with_static: Whether the encoders begin as the static networks.
        published: Of others: name, and test error.
        oracle_images: Test images that the oracle is run on.
        timed_images: Test images that wall times are measured on.

    Raises:
        ValueError: There is no GFNet, or two have one patch size.
    """

    title: str
    static: BaselineConfig
    gfnets: Sequence[PipelineConfig]
    begin_with_static: bool = True
    published: Mapping[str, str] = field(default_factory=dict)
    oracle_images: int = 500
    timed_images: int = 192

    def __post_init__(self) -> None:
        sides = [gfnet.patch_size for gfnet in self.gfnets]
        if not sides or len(set(sides)) < len(sides):
            raise ValueError(f"give patch sizes, each once, not {sides}")


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ReadingOptions, RunControl):
    """Where a study works, and how often."""

    run: Path
    """Folder for everything that is trained."""
    out: Path
    """Folder for the tables and pictures."""
    seeds: tuple[int, ...] = (0,)
    """All of it is done once for each; --resume goes on with more."""
    add: bool = False
    """Keep the seeds that results.json of ``out`` holds already, from other days or machines."""
    timed: bool = True
    """Measure wall times too, at the end: of the least seed trained here, unless ``add`` found
    some. On a machine that is busy otherwise, leave them to a later --resume."""

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
        What results.json holds: for each seed the static networks, and for each GFNet, by its patch
        size, accuracy per step after every stage and of every policy, multiply-adds per step, and
        how much cheaper an early exit is at the accuracy of the static ones.

    Raises:
        FileExistsError: The run folder exists, and neither overwriting nor resuming was asked for.
        ValueError: A value is wrong, the run to be resumed was begun with others, or the results to
            be added to are of another study.
    """
    console = Console()
    settings = _settings(study)
    kept = _kept(settings, options.out / "results.json") if options.add else {}
    runs, new = dict(kept), [seed for seed in options.seeds if seed not in kept]
    first = min([*kept, *new])
    may_change = MAY_CHANGE | {"out", "seeds", "add", "timed"}
    begin_or_resume(options, may_change, sorted(options.run.glob("seed-*")))
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in new:
        console.rule(f"seed {seed}")
        runs[seed] = _run_seed(study, options, seed, image_sets)
    for gfnet in study.gfnets if first in new else ():
        shown = _assembled(_folder(options, first, gfnet))
        for source, name in _PICTURES.items():
            shutil.copyfile(shown / source, options.out / f"{name}-{gfnet.patch_size}.png")
    results = {
        "title": study.title,
        "settings": settings,
        "runs": [runs[seed] for seed in sorted(runs)],
        "published": dict(study.published),
    }
    # Before anything is timed, lest an engine that is missing costs the table.
    text = write_report(results, options.out)
    if options.timed and new and not any(map(_is_timed, kept.values())):
        _time(study, options, runs[min(new)], image_sets)
        text = write_report(results, options.out)
    console.print(text)
    return results


def _settings(study: Study) -> dict[str, Any]:
    """All that a study trains with, but for seeds and for where things are."""
    elsewhere = {"run", "baseline", "seed", "weights"}
    for kind in (ReadingOptions, RunControl):
        elsewhere |= {each.name for each in dataclasses.fields(kind)}
    settings: dict[str, Any] = {"begin_with_static": study.begin_with_static}
    for name, config in {
        "static": study.static,
        **{f"gfnet-{gfnet.patch_size}": gfnet for gfnet in study.gfnets},
    }.items():
        values = to_json(dataclasses.asdict(config))
        settings[name] = {key: values[key] for key in sorted(values.keys() - elsewhere)}
        if values["images"].startswith("folder:"):
            settings[name]["images"] = "folder"
    return settings


def _check_settings(settings: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> None:
    """See that what was measured before is of the same study."""
    known = found.get("settings", {})
    parts = [name for name in {**settings, **known} if known.get(name) != settings.get(name)]
    if parts:
        raise ValueError(
            f"{where} was made with other settings (of {', '.join(parts)}) than this study has; "
            "give another folder, or have it replaced"
        )


def _kept(settings: Mapping[str, Any], written: Path) -> dict[int, dict[str, Any]]:
    """What results.json holds of each seed; nothing where there is none."""
    if not written.is_file():
        return {}
    results = read_json(written)
    _check_settings(settings, results, written)
    return {run["seed"]: run for run in results["runs"]}


def _run_seed(
    study: Study, options: StudyOptions, seed: int, image_sets: Mapping[str, ImageSet] | None
) -> dict[str, Any]:
    """Train and measure once; what was measured before comes from its file."""
    folder = options.run / f"seed-{seed}"
    written = folder / _MEASURED
    settings = _settings(study)
    if written.is_file():
        measured = read_json(written)
        _check_settings(settings, measured, written)
        return measured["run"]
    # Whether the study begins anew, its own folder says.
    shared = values_of(options, ReadingOptions) | values_of(options, RunControl)
    shared |= {"resume": True, "overwrite": False, "seed": seed}
    static = dataclasses.replace(study.static, run=folder / "static", **shared)
    folder.mkdir(exist_ok=True)
    clock = folder / "seconds.json"
    with _counted(clock):
        train_baselines(static, image_sets)
    begun: dict[str, Any] = {"baseline": static.run} if study.begin_with_static else {}
    measured = {}
    for config in study.gfnets:
        run = _folder(options, seed, config)
        gfnet = dataclasses.replace(config, run=run, **begun, **shared)
        with _counted(clock):
            train_gfnet(gfnet, image_sets)
            found = _measure(study, options, gfnet, static.run, image_sets)
        measured[str(gfnet.patch_size)] = found
    *_, last = measured.values()
    common = {key: last[key] for key in ("images", "static")}
    results = {
        "seed": seed,
        **read_json(clock),
        **common,
        "gfnets": {
            side: {key: value for key, value in found.items() if key not in common}
            for side, found in measured.items()
        },
        "provenance": provenance(command=False),
    }
    write_json(written, {"settings": settings, "run": results})
    return results


@contextmanager
def _counted(clock: Path) -> Iterator[None]:
    """Add the seconds that something takes to those in a file, so that a resumed seed has all."""
    started = time.monotonic()
    try:
        yield
    finally:
        before = read_json(clock)["seconds"] if clock.is_file() else 0.0
        write_json(clock, {"seconds": round(before + time.monotonic() - started, 1)})


def _measure(
    study: Study,
    options: StudyOptions,
    gfnet: PipelineConfig,
    baseline: Path,
    image_sets: Mapping[str, ImageSet] | None,
) -> dict[str, Any]:
    """What a trained GFNet is worth on the test split, beside static networks; kept in a file."""
    written = gfnet.run / _MEASURED
    if written.is_file():
        return read_json(written)
    shared = values_of(options, ReadingOptions)
    shared |= {"run": _assembled(gfnet.run), "device": options.device, "overwrite": True}
    shared["seed"] = gfnet.seed
    test = image_sets["test"] if image_sets else None
    evaluated = evaluate(EvaluationConfig(baseline=baseline, **shared), image_sets)
    compared = compare_policies(ComparisonConfig(oracle_images=study.oracle_images, **shared), test)
    stages = read_json(gfnet.run / "results.json")["stages"]
    measured = {
        "images": compared["images"],
        "static": evaluated["static"],
        "multiply_adds": [row["multiply_adds"] for row in evaluated["anytime"]],
        "stages": {name: stage["accuracy"] for name, stage in stages.items()},
        "policies": {name: found["accuracy"] for name, found in compared["policies"].items()},
        "centred": compared["policies"]["learned"].get("centred"),
        "comparison": evaluated["comparison"],
        "budgeted": evaluated["budgeted"],
        "latency": None,
    }
    write_json(written, measured)
    return measured


def _is_timed(run: Mapping[str, Any]) -> bool:
    return all(found["latency"] for found in run["gfnets"].values())


def _time(
    study: Study,
    options: StudyOptions,
    run: dict[str, Any],
    image_sets: Mapping[str, ImageSet] | None,
) -> None:
    """Wall times of each GFNet of a seed, beside the rest of what was measured; once."""
    seed, test = run["seed"], image_sets["test"] if image_sets else None
    folder = options.run / f"seed-{seed}"
    shared = values_of(options, ReadingOptions) | {"device": options.device, "seed": seed}
    shared["count"] = study.timed_images
    for gfnet in study.gfnets:
        found = run["gfnets"][str(gfnet.patch_size)]
        if found["latency"] is None:
            assembled = _assembled(_folder(options, seed, gfnet))
            config = LatencyConfig(
                run=assembled, baseline=folder / "static", overwrite=True, **shared
            )
            found["latency"] = measure_latency(config, test)
            write_json(folder / _MEASURED, {"settings": _settings(study), "run": run})


def _folder(options: StudyOptions, seed: int, gfnet: PipelineConfig) -> Path:
    """The run folder of a GFNet."""
    return options.run / f"seed-{seed}" / f"gfnet-{gfnet.patch_size}"


def _assembled(gfnet: Path) -> Path:
    """The run folder of the last stage that has a policy."""
    return gfnet / ("stage3" if (gfnet / "stage3" / "results.json").is_file() else "stage2")
