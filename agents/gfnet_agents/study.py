"""Studies: everything needed to compare with a published table, over several seeds."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from rich.markdown import Markdown

from gfnet_agents.config import exits_of_0_1, part_control
from gfnet_agents.pipeline import (
    PipelineConfig,
    PipelineResult,
    assembled,
    check_gfnet,
    train_gfnet,
)
from gfnet_agents.recipes import find_recipe
from gfnet_agents.study_report import GFNetResult, SeedResult, StudyResult, write_report
from gfnet_env.benchmarks import (
    ComparisonConfig,
    EvaluationConfig,
    LatencyConfig,
    compare_policies,
    evaluate,
    measure_latency,
)
from gfnet_env.benchmarks.results import Result, StaticRow
from gfnet_env.console import PlainConsole
from gfnet_env.files import check_writable, is_file, write_json
from gfnet_env.images import ImageSet, ReadingOptions
from gfnet_env.runs import Run, RunControl, check_run, provenance
from gfnet_env.settings import AtLeast, Flat, Settings
from gfnet_env.training import BaselineConfig, train_baselines
from gfnet_env.training.config import MAY_CHANGE

_Sets = Mapping[str, ImageSet] | None
_MEASURED = "measured.json"
_PICTURES = {"evaluation/accuracy.png": "curves", "policies/trajectories.png": "patches"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study trains, and the published results of others.

    Attributes:
        title: Title of its table.
        static: Configuration of the whole-image baselines, which are trained first.
        gfnets: Configurations of all three stages of each GFNet; the patch sizes must differ.
        begin_with_static: Whether the encoders start from the static networks.
        published: Published test errors of other methods, by name.
        oracle_images: Number of test images for the oracle.
        timed_images: Number of test images for wall times.

    Raises:
        ValueError: There is no GFNet, or two have the same patch size.
    """

    title: str
    static: BaselineConfig
    gfnets: Sequence[PipelineConfig]
    begin_with_static: bool = True
    published: Mapping[str, str] = field(default_factory=dict)
    oracle_images: int = 500
    timed_images: int = 192

    def __post_init__(self) -> None:
        sides = [gfnet.network.patch_size for gfnet in self.gfnets]
        if not sides or len(set(sides)) < len(sides):
            raise ValueError(f"give patch sizes, each once, not {sides}")

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the training, by name, except seeds and folders."""
        parts = {f"gfnet-{each.network.patch_size}": each.resolved() for each in self.gfnets}
        configs: dict[str, Settings] = {"static": self.static.resolved(), **parts}
        settings = {name: _settings_of(config) for name, config in configs.items()}
        return {"begin_with_static": self.begin_with_static, **settings}


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Settings):
    """Folders and seeds of a study."""

    run: Path
    """Folder for all runs."""
    out: Path
    """Folder for the tables and plots."""
    seeds: Annotated[tuple[int, ...], AtLeast(0)] = (0,)
    """Seeds to repeat the study with; --resume can add more."""
    add: bool = False
    """Whether to keep the seeds that results.json of ``out`` already holds, from other days or
    machines."""
    timed: bool = True
    """Whether to measure wall times too, at the end, for the lowest seed trained here, unless
    ``add`` found some. On a busy machine, leave them to a later --resume."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different numbers, one at least, not {self.seeds}")

    def folder(self, seed: int, gfnet: PipelineConfig | None = None) -> Path:
        """The run folder of a seed, or of one of its GFNets."""
        folder = self.run / f"seed-{seed}"
        return folder / f"gfnet-{gfnet.network.patch_size}" if gfnet else folder


@dataclass(frozen=True)
class Measured(Result):
    """The measurements of a seed, and the settings of its study."""

    settings: Mapping[str, Any]
    run: SeedResult


@dataclass(frozen=True)
class _Clock(Result):
    """How long a seed has been trained."""

    seconds: float


def run_study(study: Study, options: StudyOptions, image_sets: _Sets = None) -> StudyResult:
    """Train, measure, and write results.json, README.md and plots into ``options.out``.

    With ``options.control.resume``, complete parts stay as they are and interrupted ones continue.

    Args:
        study: The study to run.
        options: Folders and seeds.
        image_sets: Splits (``train``, ``val``, ``test``) in place of the study's.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        ValueError: A value is wrong, the run to resume was begun with other values, or the results
            to add to come from another study.
    """
    check_run(options.run, options.control)
    check_writable(options.out)
    console = PlainConsole()
    kept = _kept(study, options.out / "results.json") if options.add else {}
    new = [seed for seed in options.seeds if seed not in kept]
    if new:
        _check(study, options, new[0], image_sets)
    with Run.open(
        *(options.run, options, options.control),
        may_change=MAY_CHANGE | {"out", "seeds", "add", "timed"},
        parts=sorted(options.run.glob("seed-*")),
    ):
        options.out.mkdir(parents=True, exist_ok=True)
        runs = dict(kept)
        for seed in new:
            console.rule(f"seed {seed}")
            runs[seed] = _run_seed(study, options, seed, image_sets)
        if min(runs) in new:
            _copy_pictures(study, options, min(runs))
        # Written before timing, so that the table is not lost if an engine is missing.
        results, text = _report(study, runs, options.out)
        if options.timed and new and not any(run.is_timed for run in kept.values()):
            runs[min(new)] = _time(study, options, runs[min(new)], image_sets)
            results, text = _report(study, runs, options.out)
    console.print(Markdown(text))
    return results


def _check(study: Study, options: StudyOptions, seed: int, image_sets: _Sets) -> None:
    """Build all stages of all GFNets, so that a mistake is found before the static networks learn.

    Their encoders begin at random: the static networks are not there yet.
    """
    shared = _shared(options, seed)
    for config in study.gfnets:
        gfnet = config.replace(run=options.folder(seed, config), **shared)
        check_gfnet(find_recipe("default").complete(gfnet), image_sets)


def _shared(options: StudyOptions, seed: int) -> dict[str, Any]:
    """The settings that all parts of a study share."""
    return options.reading.given() | part_control(options.control) | {"seed": seed}


def _copy_pictures(study: Study, options: StudyOptions, seed: int) -> None:
    for gfnet in study.gfnets:
        shown = _assembled(options.folder(seed, gfnet))
        for source, name in _PICTURES.items():
            picture = f"{name}-{gfnet.network.patch_size}.png"
            shutil.copyfile(shown / source, options.out / picture)


def _report(study: Study, runs: Mapping[int, SeedResult], out: Path) -> tuple[StudyResult, str]:
    """The results of all seeds, and the text of their tables."""
    results = StudyResult(
        title=study.title,
        settings=study.settings,
        runs=tuple(runs[seed] for seed in sorted(runs)),
        published=study.published,
    )
    return results, write_report(results, out)


def _settings_of(config: Settings) -> dict[str, Any]:
    values = config.to_json()
    elsewhere = {"run", "baseline", "seed", "weights"}
    elsewhere |= ReadingOptions().to_json().keys() | RunControl().to_json().keys()
    settings = {name: values[name] for name in sorted(values.keys() - elsewhere)}
    if str(values["images"]).startswith("folder:"):
        settings["images"] = "folder"
    return settings


def _check_settings(study: Study, found: Mapping[str, Any], where: Path) -> None:
    """Raise ``ValueError`` unless the settings of earlier measurements are those of this study."""
    settings = study.settings
    known = {name: _of_today(each) for name, each in found.items()}
    parts = [name for name in {**settings, **known} if _differ(known.get(name), settings.get(name))]
    if parts:
        raise ValueError(
            f"{where} was made with other settings (of {', '.join(parts)}) than this study's; "
            "give another folder, or overwrite it"
        )


def _differ(one: Any, other: Any) -> bool:
    """Whether two settings differ in a value that both have; None is chosen by the data."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both = [name for name in one.keys() & other.keys() if None not in (one[name], other[name])]
        return any(_differ(one[name], other[name]) for name in both)
    return bool(one != other)


def _of_today(settings: Any) -> Any:
    """Settings saved by version 0.1, with current names and values."""
    if not isinstance(settings, Mapping):
        return settings
    values = {name: _of_today(each) for name, each in settings.items()}
    if "average_decay" in values:
        values["average_decay"] = values["average_decay"] or 0.0
    if "exit_confidence" in values:
        values["exits"] = exits_of_0_1(values.pop("exit_confidence"))
    return values


def _kept(study: Study, written: Path) -> dict[int, SeedResult]:
    """The results of each seed in results.json; empty if there is no such file."""
    if not is_file(written):
        return {}
    saved = StudyResult.read(written)
    _check_settings(study, saved.settings, written)
    runs = {run.seed: run for run in saved.runs}
    if len(runs) < len(saved.runs):
        raise ValueError(f"{written} holds a seed twice; restore it from a copy, or make it anew")
    return runs


def _run_seed(study: Study, options: StudyOptions, seed: int, image_sets: _Sets) -> SeedResult:
    """Train and measure once; earlier measurements are read from their file."""
    folder = options.folder(seed)
    written = folder / _MEASURED
    if is_file(written):
        saved = Measured.read(written)
        _check_settings(study, saved.settings, written)
        if saved.run.seed != seed:
            raise ValueError(
                f"{written} was made with the seed {saved.run.seed}, not {seed}; restore the "
                "folder from a copy, or remove it"
            )
        return saved.run
    shared = _shared(options, seed)
    static = study.static.replace(run=folder / "static", **shared)
    folder.mkdir(exist_ok=True)
    clock = folder / "seconds.json"
    with _counted(clock):
        train_baselines(static, image_sets)
    begun = {"baseline": static.run} if study.begin_with_static else {}
    gfnets = {}
    for config in study.gfnets:
        gfnet = config.replace(run=options.folder(seed, config), **begun, **shared)
        with _counted(clock):
            train_gfnet(gfnet, image_sets)
            images, rows, found = _measure(study, options, gfnet, static.run, image_sets)
        gfnets[str(gfnet.network.patch_size)] = found
    result = SeedResult(
        seed=seed,
        seconds=_Clock.read(clock).seconds,
        images=images,
        static=rows,
        gfnets=gfnets,
        provenance=provenance(command=False),
    )
    _keep(study, options, result)
    return result


def _keep(study: Study, options: StudyOptions, result: SeedResult) -> None:
    """Write the measurements of a seed, and its training settings."""
    measured = Measured(study.settings, result)
    write_json(options.folder(result.seed) / _MEASURED, measured.to_json())


@contextmanager
def _counted(clock: Path) -> Iterator[None]:
    """Add the duration of the context to the seconds in a file, for a seed that is resumed."""
    started = time.monotonic()
    try:
        yield
    finally:
        before = _Clock.read(clock).seconds if clock.is_file() else 0.0
        write_json(clock, _Clock(round(before + time.monotonic() - started, 1)).to_json())


def _measure(
    study: Study, options: StudyOptions, gfnet: PipelineConfig, baseline: Path, image_sets: _Sets
) -> tuple[int, tuple[StaticRow, ...], GFNetResult]:
    """Measure a trained GFNet on the test split: number of images, static networks, the GFNet."""
    shared = options.reading.given() | {"run": _assembled(gfnet.run), "overwrite": True}
    shared |= {"seed": gfnet.options.seed, "device": options.control.device}
    test = None if image_sets is None else image_sets["test"]
    evaluated = evaluate(EvaluationConfig.of(baseline=baseline, **shared), image_sets)
    assert evaluated.static is not None
    assert evaluated.comparison is not None
    config = ComparisonConfig.of(oracle_images=study.oracle_images, **shared)
    compared = compare_policies(config, test)
    stages = PipelineResult.read(gfnet.run / "results.json").stages
    found = GFNetResult(
        multiply_adds=tuple(int(step.multiply_adds) for step in evaluated.anytime),
        stages={name: stage.accuracy for name, stage in stages.items()},
        policies={name: each.accuracy for name, each in compared.policies.items()},
        centred=compared.policies["learned"].centred,
        comparison=evaluated.comparison,
        budgeted=evaluated.budgeted,
    )
    return compared.images, evaluated.static, found


def _time(study: Study, options: StudyOptions, result: SeedResult, image_sets: _Sets) -> SeedResult:
    """Add the wall times of its GFNets to a seed; each is measured once."""
    test = None if image_sets is None else image_sets["test"]
    shared = options.reading.given() | {"device": options.control.device, "seed": result.seed}
    shared |= {"count": study.timed_images, "overwrite": True}
    for gfnet in study.gfnets:
        side = str(gfnet.network.patch_size)
        if result.gfnets[side].latency is not None:
            continue
        config = LatencyConfig.of(
            run=_assembled(options.folder(result.seed, gfnet)),
            baseline=options.folder(result.seed) / "static",
            **shared,
        )
        timed = replace(result.gfnets[side], latency=measure_latency(config, test))
        result = replace(result, gfnets={**result.gfnets, side: timed})
        _keep(study, options, result)
    return result


def _assembled(gfnet: Path) -> Path:
    """The run folder of the last stage of a GFNet that was trained."""
    folder = assembled(gfnet)
    assert folder is not None
    return folder
