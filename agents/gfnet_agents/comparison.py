"""Ways to learn side by side: each with several seeds, at the same number of environment steps."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from gfnet_agents.comparison_report import print_table, write_report
from gfnet_agents.training import (
    CURVE_FILE,
    PolicyConfig,
    PolicySchedule,
    check_schedule,
    open_network,
    train_policy,
)
from gfnet_env.benchmarks.statistics import (
    interquartile_mean,
    interquartile_mean_interval,
    mean_interval,
    probability_of_improvement,
)
from gfnet_env.data import ImageSet
from gfnet_env.features import COST_OPTIONS, FeatureOptions
from gfnet_env.files import read_json
from gfnet_env.inference import EarlyExitGFNet, evaluate_policy
from gfnet_env.matching import ImageOptions
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import Policy, RandomPolicy, TargetPolicy
from gfnet_env.runs import begin_or_resume, provenance, resolve_device, values_of
from gfnet_env.training.config import MAY_CHANGE, RunControl

_MAY_CHANGE = MAY_CHANGE | COST_OPTIONS | {"out", "ray", "address"}
_Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ScheduleComparisonConfig(ImageOptions, FeatureOptions, RunControl):
    """On what to compare schedules of stage 2, and how."""

    run: Path
    """Folder for the runs, the table and the picture; shared, where several machines work."""
    out: Path | None = None
    """Another folder for the table and the picture."""
    seeds: int = 3
    """Runs of each, seeded 0, 1, …"""
    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    ray: bool = False
    """Whether Ray Tune spreads the runs; by default they come one after the other."""
    address: str | None = None
    """Of a Ray cluster; by default this machine is one."""
    cpus: int = 1
    """Processors that Ray sets apart for a run."""

    def __post_init__(self) -> None:
        RunControl.__post_init__(self)
        FeatureOptions.__post_init__(self)
        for name in ("seeds", "cpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def job(
        self, name: str, schedule: PolicySchedule, seed: int, network: Path | None = None
    ) -> PolicyConfig:
        """The run of one schedule with one seed, on this network or on the one of all."""
        config = PolicyConfig(
            **values_of(schedule, PolicySchedule),
            **values_of(self, ImageOptions),
            **values_of(self, FeatureOptions),
            # Whether the comparison begins anew, its own folder says.
            **values_of(self, RunControl) | {"resume": True, "overwrite": False},
            run=self.run / f"{name}-{seed}",
            network=network or self.network,
            oracle_images=0,
            seed=seed,
        )
        # Ray's trials work in folders of their own, and a run may go on with or without it.
        return dataclasses.replace(config, **_absolute(config))


@dataclass(frozen=True, kw_only=True)
class AlgorithmComparisonConfig(ScheduleComparisonConfig):
    """Which algorithms to compare, on what."""

    algorithms: tuple[str, ...] = ("ppo",)
    """Their names."""
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    """How each learns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.algorithms:
            raise ValueError("give at least one algorithm")
        twice = {name for name in self.algorithms if self.algorithms.count(name) > 1}
        if twice:
            raise ValueError(f"algorithms are named twice: {', '.join(sorted(twice))}")
        if self.stage2.algorithm not in {PolicySchedule.algorithm, *self.algorithms}:
            raise ValueError(
                f"{self.stage2.algorithm!r} is not among the algorithms, "
                f"{', '.join(self.algorithms)}; name it there"
            )


@dataclass(frozen=True)
class _Job:
    """One run, and the name of what it is a run of."""

    name: str
    config: PolicyConfig

    @property
    def folder(self) -> Path:
        assert self.config.run is not None
        return self.config.run


def compare_algorithms(
    config: AlgorithmComparisonConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> dict[str, Any]:
    """``compare_schedules`` of one schedule with each of several algorithms."""
    schedules = {
        name: dataclasses.replace(config.stage2, algorithm=name) for name in config.algorithms
    }
    return compare_schedules(schedules, config, image_sets)


def compare_schedules(
    schedules: Mapping[str, PolicySchedule],
    config: ScheduleComparisonConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    networks: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Learn by every schedule with every seed, and write the results into ``config.run``.

    They are results.json, README.md, table.csv and curves.png.

    With ``config.resume``, runs that are complete are left alone and those that were interrupted
    go on.

    Args:
        schedules: How to learn, by name.
        config: On what to compare them.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``;
            pickled for each process under Ray.
        networks: Folders of other networks than ``config.network``, for the same images and as many
            focus steps, by the name of the schedule that learns on each.

    Returns:
        What was written. ``bounds`` has the accuracy per step of random patches and, where the
        images know their objects, of patches on those. ``schedules`` has, for each, accuracy per
        step (mean over seeds), the interquartile mean over seeds of the last step's and its
        interval (null of one seed), how likely a run of it beats one of each other, and its
        difference to random patches at the last step with a 95% interval over the originals that
        the test images were made from; where it has a network of its own, that network's
        ``bounds`` too.

    Raises:
        FileExistsError: The run folder exists, and neither overwriting nor resuming was asked for.
        ImportError: Ray was asked for and is not installed.
        RuntimeError: A run failed under Ray.
        ValueError: A value is wrong.
    """
    console = Console()
    networks = networks or {}
    unknown = sorted(networks.keys() - schedules.keys())
    if unknown:
        raise ValueError(f"networks are given for {unknown}; schedules are {sorted(schedules)}")
    jobs = [
        _Job(name, config.job(name, schedule, seed, networks.get(name)))
        for name, schedule in schedules.items()
        for seed in range(config.seeds)
    ]
    focus_steps = open_network(config.network).focus_steps
    for name, folder in networks.items():
        steps = open_network(folder).focus_steps
        if steps != focus_steps:
            raise ValueError(
                f"the network of {name} has {steps} focus steps, that of others {focus_steps}; "
                "give networks of as many"
            )
    for job in jobs:
        # What is wrong with the last must not be found out after all others have run.
        check_schedule(job.config, focus_steps)
    begin_or_resume(config, _MAY_CHANGE, (job.folder for job in jobs))
    if config.ray:
        _spread(jobs, config, image_sets)
    else:
        for number, job in enumerate(jobs, start=1):
            console.rule(f"{job.name}, seed {job.config.seed} ({number} of {len(jobs)})")
            train_policy(job.config, image_sets=image_sets)
    results = _judge(jobs, config, image_sets, networks, console)
    for folder in [config.run] if config.out is None else [config.run, config.out]:
        write_report(results, folder)
    _note_hyperparameters(jobs, results, config.run / "tensorboard")
    print_table(results, console)
    return results


def _note_hyperparameters(jobs: Sequence[_Job], results: Mapping[str, Any], folder: Path) -> None:
    """For TensorBoard's table of hyperparameters."""
    with SummaryWriter(str(folder)) as writer:
        for job, run in zip(jobs, results["runs"], strict=True):
            values = dataclasses.asdict(job.config)
            known = {
                each.name: values[each.name]
                for each in dataclasses.fields(PolicySchedule)
                if isinstance(values[each.name], bool | str | float | int)
            }
            metrics = {f"accuracy/{step}": value for step, value in enumerate(run["accuracy"])}
            known["seed"] = job.config.seed
            writer.add_hparams(known, metrics, run_name=job.folder.name)


def _spread(
    jobs: Sequence[_Job],
    config: ScheduleComparisonConfig,
    image_sets: Mapping[str, ImageSet] | None,
) -> None:
    """Run them under Ray Tune."""
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ImportError("Ray Tune must be installed: pip install 'gfnet-env[ray]'") from error

    def train(chosen: Mapping[str, int], image_sets: Mapping[str, ImageSet] | None) -> None:
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


def _absolute(config: PolicyConfig) -> dict[str, Any]:
    paths = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
    return {name: path.resolve() for name, path in paths.items() if isinstance(path, Path)}


def _judge(
    jobs: Sequence[_Job],
    config: ScheduleComparisonConfig,
    image_sets: Mapping[str, ImageSet] | None,
    networks: Mapping[str, Path],
    console: Console,
) -> dict[str, Any]:
    """Every step of every test image under each learned policy, held against random patches."""
    device = resolve_device(config.device)
    common = open_network(config.network).to(device)
    images = image_sets["test"] if image_sets else config.open(common, "test")

    def correct(network: GlanceFocusNetwork, policy: Policy) -> _Correct:
        return evaluate_policy(network, policy, images).correct

    def bounds_of(network: GlanceFocusNetwork) -> dict[str, _Correct]:
        bounds = {"random": correct(network, RandomPolicy())}
        if images.boxes is not None:
            bounds["target"] = correct(network, TargetPolicy())
        return bounds

    with console.status("random patches"):
        bounds = bounds_of(common)
        own = {name: bounds_of(open_network(each).to(device)) for name, each in networks.items()}
    learned: dict[str, list[_Correct]] = {}
    runs = []
    for job in jobs:
        with console.status(f"{job.name}, seed {job.config.seed}"):
            gfnet = EarlyExitGFNet.load(job.folder).to(device)
            found = correct(gfnet.network, gfnet.policy)
        learned.setdefault(job.name, []).append(found)
        results = read_json(job.folder / "results.json")
        runs.append(
            {
                "schedule": job.name,
                "seed": job.config.seed,
                "environment_steps": results["environment_steps"],
                "seconds": results["seconds"],
                "accuracy": found.mean(axis=0).round(6).tolist(),
                "curve": read_json(job.folder / CURVE_FILE)["curve"],
            }
        )
    return {
        "split": "test",
        "images": len(images),
        "bounds": _per_step(bounds),
        "schedules": {
            name: _summary(found, learned, own.get(name, bounds), images.sources)
            | ({"bounds": _per_step(own[name])} if name in own else {})
            for name, found in learned.items()
        },
        "runs": runs,
        "provenance": provenance(command=False),
    }


def _summary(
    found: Sequence[_Correct],
    everyone: Mapping[str, Sequence[_Correct]],
    bounds: Mapping[str, _Correct],
    sources: npt.NDArray[np.int64] | None,
) -> dict[str, Any]:
    """One schedule: of (N, T) for each of its seeds, and of all schedules."""
    mean = np.mean(found, axis=0)
    last = _last(found)
    difference = mean[:, -1] - bounds["random"][:, -1]
    low, high = mean_interval(difference, sources)
    interval = interquartile_mean_interval(last)
    summary = {
        "accuracy": mean.mean(axis=0).round(6).tolist(),
        "interquartile_mean": round(interquartile_mean(last), 6),
        "interval": interval and [round(bound, 6) for bound in interval],
        "beats": {
            name: round(probability_of_improvement(last, _last(other)), 6)
            for name, other in everyone.items()
            if other is not found
        },
        "above_random": round(float(difference.mean()), 6),
        "above_random_interval": [round(low, 6), round(high, 6)],
    }
    if "target" in bounds:
        gain, most = (rows.mean(axis=0)[1] for rows in (mean, bounds["target"]))
        glance = mean.mean(axis=0)[0]
        share = float((gain - glance) / (most - glance)) if most != glance else None
        summary["share_of_target_gain"] = share and round(share, 6)
    return summary


def _per_step(bounds: Mapping[str, _Correct]) -> dict[str, list[float]]:
    """Accuracy per step of each."""
    return {name: found.mean(axis=0).round(6).tolist() for name, found in bounds.items()}


def _last(found: Sequence[_Correct]) -> npt.NDArray[np.float64]:
    """Accuracy at the last step, one per seed."""
    return np.array([rows[:, -1].mean() for rows in found])
