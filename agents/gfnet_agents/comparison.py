"""Compare schedules: several seeds of each, for the same number of environment steps."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.markdown import Markdown
from torch.utils.tensorboard import SummaryWriter

from gfnet_agents.comparison_report import ComparisonResult, RunResult, ScheduleResult, write_report
from gfnet_agents.config import PolicyConfig, PolicySchedule, part_control
from gfnet_agents.curve import Curve
from gfnet_agents.training import check_policy, plan_policy, train_policy
from gfnet_env.benchmarks.results import PolicyResults, interval_of, rounded
from gfnet_env.benchmarks.statistics import (
    interquartile_mean,
    interquartile_mean_interval,
    probability_of_improvement,
)
from gfnet_env.console import PlainConsole
from gfnet_env.digest import digest
from gfnet_env.env.vector import open_model
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import COST_OPTIONS, FeatureOptions
from gfnet_env.files import check_writable
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.matching import ImageOptions
from gfnet_env.planning import Plan
from gfnet_env.policies import Policy, RandomPolicy, TargetPolicy
from gfnet_env.runs import Run, RunControl, check_run, provenance, resolve_device
from gfnet_env.settings import AtLeast, Flat, Settings
from gfnet_env.training.config import MAY_CHANGE

_MAY_CHANGE = MAY_CHANGE | COST_OPTIONS | {"out", "ray", "address"}
_LONGEST_NAME = 80

_Sets = Mapping[str, ImageSet] | None
_Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ScheduleComparisonConfig(Settings):
    """How to compare schedules, and on which images."""

    run: Path
    """Folder for the runs, the table and the plot; it must be shared if several machines work."""
    out: Path | None = None
    """Another folder for the table and the plot."""
    seeds: Annotated[int, AtLeast(1)] = 3
    """Number of runs of each schedule, with seeds 0, 1, …"""
    network: Path | None = None
    """Folder of a trained network; by default the packaged network."""
    ray: bool = False
    """Whether Ray Tune distributes the runs; by default they run one after the other."""
    address: str | None = None
    """Address of a Ray cluster; by default this machine is used."""
    cpus: Annotated[int, AtLeast(1)] = 1
    """CPUs that Ray reserves for each run."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    features: Flat[FeatureOptions] = field(default_factory=FeatureOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def check_folders(self) -> None:
        """Check that runs and tables can be written; raises like ``Run.open``."""
        check_run(self.run, self.control)
        if self.out is not None:
            check_writable(self.out)

    def job(
        self, name: str, schedule: PolicySchedule, seed: int, network: Path | None = None
    ) -> PolicyConfig:
        """The run of a schedule with a seed, on its own network or on the common one."""
        values = {
            **schedule.given(),
            **self.images.given(),
            **self.features.given(),
            **part_control(self.control),
            "run": self.run / f"{folder_name(name)}-{seed}",
            "network": network or self.network,
            "seed": seed,
            "oracle_images": 0,
        }
        # Ray's trials work in their own folders, and a run may continue with or without Ray.
        absolute = {
            key: value.resolve() if isinstance(value, Path) else value
            for key, value in values.items()
        }
        return PolicyConfig.of(**absolute)


@dataclass(frozen=True, kw_only=True)
class AlgorithmComparisonConfig(Settings):
    """Which learners to compare, and on which images."""

    algorithms: tuple[str, ...] = ("ppo",)
    """Specs of the learners: ppo, sac:ent_coef=0.1, module:NAME of your own, …"""
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    """The schedule of each learner."""
    comparison: Flat[ScheduleComparisonConfig]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.algorithms:
            raise ValueError("algorithms is empty; give at least one algorithm")
        if self.stage2.algorithm not in {None, *self.algorithms}:
            raise ValueError(
                f"{self.stage2.algorithm!r} is not among the algorithms, "
                f"{', '.join(self.algorithms)}; name it there"
            )
        check_names(self.algorithms)


@dataclass(frozen=True)
class _Job:
    """One run of a schedule."""

    schedule: str
    config: PolicyConfig

    @property
    def run(self) -> Run:
        assert self.config.run is not None
        return Run(self.config.run)


def folder_name(name: str) -> str:
    """The folder name for a name or a spec: ``sac:ent_coef=0.1`` becomes ``sac-ent_coef=0.1``."""
    plain = re.sub(r"[^\w.=]+", "-", name).strip("-")
    if len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[:_LONGEST_NAME]}-{digest(name)[:8]}"


def compare_algorithms(
    config: AlgorithmComparisonConfig, image_sets: _Sets = None
) -> ComparisonResult:
    """Call ``compare_schedules`` for one schedule with each of several learners."""
    schedules = {name: config.stage2.replace(algorithm=name) for name in config.algorithms}
    return compare_schedules(schedules, config.comparison, image_sets)


def plan_algorithms(config: AlgorithmComparisonConfig) -> Plan:
    """What ``compare_algorithms`` would do and cost, apart from the comparison at the end."""
    comparison, figures, total = config.comparison, dict[str, str](), 0.0
    comparison.check_folders()
    for name in config.algorithms:
        job = comparison.job(name, config.stage2.replace(algorithm=name), seed=0)
        plan = plan_policy(job)
        figures |= {f"{name}, {what}": text for what, text in plan.figures.items()}
        total += comparison.seeds * (plan.seconds or 0.0)
    figures["runs"] = f"{len(config.algorithms)} learners with {comparison.seeds} seeds each"
    return Plan(config, figures, total)


def compare_schedules(
    schedules: Mapping[str, PolicySchedule],
    config: ScheduleComparisonConfig,
    image_sets: _Sets = None,
    networks: Mapping[str, Path] | None = None,
) -> ComparisonResult:
    """Learn by every schedule with every seed, and write the results into ``config.run``.

    The files are results.json, README.md, table.csv and curves.png. With ``config.control.resume``,
    complete runs stay as they are and interrupted ones continue.

    Args:
        schedules: Schedules by name.
        config: How to compare them.
        image_sets: Splits (``train``, ``val``, ``test``) in place of ``config.images``.
        networks: Folders of networks to use in place of ``config.network``, by the name of the
            schedule that learns on each. All must have the same images and number of looks.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        ImportError: Ray was requested but is not installed.
        RuntimeError: A run failed under Ray.
        ValueError: A value is wrong.
    """
    config.check_folders()
    console = PlainConsole()
    networks = networks or {}
    jobs = _jobs(schedules, config, networks)
    # Before the first one begins.
    for job in jobs:
        if job.config.seed == 0:
            check_policy(job.config, image_sets=image_sets)
    parts = [job.run.folder for job in jobs]
    with Run.open(config.run, config, config.control, may_change=_MAY_CHANGE, parts=parts) as run:
        _train(jobs, config, image_sets, console)
        with console.status("test images"):
            results = _judge(jobs, config, image_sets, networks)
        for folder in filter(None, (config.out, run.folder)):
            text = write_report(results, folder)
        _note_hyperparameters(jobs, results, run.folder / "tensorboard")
    console.print(Markdown(text))
    return results


def _jobs(
    schedules: Mapping[str, PolicySchedule],
    config: ScheduleComparisonConfig,
    networks: Mapping[str, Path],
) -> list[_Job]:
    """All runs."""
    check_names(schedules)
    _check_networks(config.network, networks, schedules)
    return [
        _Job(name, config.job(name, schedule, seed, networks.get(name)))
        for name, schedule in schedules.items()
        for seed in range(config.seeds)
    ]


def check_names(names: Collection[str]) -> None:
    """Raise ``ValueError`` if two names give the same folder."""
    folders = [folder_name(name) for name in names]
    twice = [name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1]
    if twice:
        raise ValueError(
            f"these have the same or nearly the same name: {', '.join(twice)}; give each once"
        )


def _check_networks(
    common: Path | None, networks: Mapping[str, Path], schedules: Mapping[str, PolicySchedule]
) -> None:
    """Raise ``ValueError`` unless networks belong to schedules and take equally many looks."""
    unknown = sorted(networks.keys() - schedules.keys())
    if unknown:
        raise ValueError(f"networks are given for {unknown}; schedules are {sorted(schedules)}")
    focus_steps = open_model(common).focus_steps
    for name, folder in networks.items():
        steps = open_model(folder).focus_steps
        if steps != focus_steps:
            raise ValueError(
                f"the network of {name} has {steps} focus steps, the others have {focus_steps}; "
                "give networks with equally many"
            )


def _note_hyperparameters(jobs: Sequence[_Job], results: ComparisonResult, folder: Path) -> None:
    """Write the hyperparameters for TensorBoard's table."""
    with SummaryWriter(str(folder)) as writer:
        for job, run in zip(jobs, results.runs, strict=True):
            given = job.config.schedule.given() | {"seed": run.seed}
            metrics = {f"accuracy/{step}": value for step, value in enumerate(run.accuracy)}
            writer.add_hparams(given, metrics, run_name=job.run.folder.name)


def _train(
    jobs: Sequence[_Job], config: ScheduleComparisonConfig, image_sets: _Sets, console: Console
) -> None:
    """Train all runs, one after the other or under Ray Tune."""
    if not config.ray:
        for number, job in enumerate(jobs, start=1):
            console.rule(f"{job.run.folder.name} ({number} of {len(jobs)})")
            train_policy(job.config, image_sets=image_sets)
        return
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ImportError("Ray Tune must be installed: pip install 'gfnet-env[ray]'") from error

    def train(chosen: Mapping[str, int], image_sets: _Sets) -> None:
        torch.set_num_threads(config.cpus)
        train_policy(configs[chosen["job"]], image_sets=image_sets)

    ray.init(address=config.address, ignore_reinit_error=True)
    configs = [job.config for job in jobs]
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train, image_sets=image_sets), {"cpu": config.cpus}
        ),
        param_space={"job": tune.grid_search(list(range(len(configs))))},
        run_config=tune.RunConfig(name="ray", storage_path=str(config.run.resolve())),
    )
    errors = tuner.fit().errors
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(configs)} runs failed; the first: {errors[0]}")


def _judge(
    jobs: Sequence[_Job],
    config: ScheduleComparisonConfig,
    image_sets: _Sets,
    networks: Mapping[str, Path],
) -> ComparisonResult:
    """Evaluate the test images under each learned policy, and under the policies that bound it."""
    device, common = resolve_device(config.control.device), open_model(config.network)
    images = config.images.open_splits(common, image_sets, ["test"])["test"]
    bounds = _bounds(config.network, images, device)
    own = {name: _bounds(folder, images, device) for name, folder in networks.items()}
    learned: dict[str, list[_Correct]] = {job.schedule: [] for job in jobs}
    runs = []
    for job in jobs:
        gfnet = EarlyExitGFNet.load(job.run.folder).to(device)
        correct = evaluate_policy(gfnet.model, gfnet.policy, images).correct
        learned[job.schedule].append(correct)
        runs.append(_run_result(job, correct))
    return ComparisonResult(
        split="test",
        images=len(images),
        bounds=_per_step(bounds),
        schedules={
            name: _summary(name, learned, own.get(name, bounds), images.sources, name in own)
            for name in learned
        },
        runs=tuple(runs),
        provenance=provenance(command=False),
    )


def _bounds(network: Path | None, images: ImageSet, device: torch.device) -> dict[str, _Correct]:
    """Evaluate the images under random looks and, if objects are known, looks at the objects."""
    model = open_model(network)
    model.to(device)
    policies: dict[str, Policy] = {"random": RandomPolicy()}
    if images.boxes is not None:
        policies["target"] = TargetPolicy()
    return {
        name: evaluate_policy(model, policy, images).correct for name, policy in policies.items()
    }


def _run_result(job: _Job, correct: _Correct) -> RunResult:
    results = PolicyResults.read(job.run.folder / "results.json")
    return RunResult(
        schedule=job.schedule,
        seed=job.config.seed,
        environment_steps=results.environment_steps,
        seconds=results.seconds,
        accuracy=_accuracy(correct),
        curve=Curve.load(job.run.folder).curve,
    )


def _summary(
    name: str,
    everyone: Mapping[str, Sequence[_Correct]],
    bounds: Mapping[str, _Correct],
    sources: npt.NDArray[np.int64] | None,
    has_own_bounds: bool,
) -> ScheduleResult:
    """Summarise one schedule; ``everyone`` holds (N, T) for each seed of all schedules."""
    mean = np.mean(everyone[name], axis=0)
    last = {other: np.mean(found, axis=1)[:, -1] for other, found in everyone.items()}
    difference = mean[:, -1] - bounds["random"][:, -1]
    interval = interquartile_mean_interval(last[name])
    share = None
    if "target" in bounds:
        (glance, reached, *_), (_, most, *_) = mean.mean(axis=0), bounds["target"].mean(axis=0)
        share = rounded((reached - glance) / (most - glance)) if most != glance else None
    return ScheduleResult(
        accuracy=_accuracy(mean),
        interquartile_mean=rounded(interquartile_mean(last[name])),
        interval=interval and (rounded(interval[0]), rounded(interval[1])),
        beats={
            other: rounded(probability_of_improvement(last[name], theirs))
            for other, theirs in last.items()
            if other != name
        },
        above_random=rounded(difference.mean()),
        above_random_interval=interval_of(difference, sources, 0),
        share_of_target_gain=share,
        bounds=_per_step(bounds) if has_own_bounds else None,
    )


def _per_step(bounds: Mapping[str, _Correct]) -> dict[str, tuple[float, ...]]:
    return {name: _accuracy(found) for name, found in bounds.items()}


def _accuracy(correct: npt.NDArray[np.generic]) -> tuple[float, ...]:
    """Accuracy per step, from (N, T)."""
    return tuple(map(rounded, correct.mean(axis=0)))
