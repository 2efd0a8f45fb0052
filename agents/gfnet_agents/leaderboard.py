"""The leaderboard: all policies and learners on the standard tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from gfnet_agents.comparison import check_names, folder_name
from gfnet_agents.config import PolicyConfig
from gfnet_agents.learners import LEARNERS, choose_actions
from gfnet_agents.learners.base import takes
from gfnet_agents.parts import Parts, PartsOptions, Results, run_parts
from gfnet_agents.training import train_policy
from gfnet_env.benchmarks.policies import (
    LEARNED,
    allowed_policies,
    choose_policies,
    compare_records,
    record_policies,
)
from gfnet_env.benchmarks.results import PolicyResult, PolicyResults
from gfnet_env.benchmarks.statistics import interquartile_mean, interquartile_mean_interval
from gfnet_env.console import PlainConsole
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.markdown import header, row
from gfnet_env.matching import ImageOptions
from gfnet_env.policies import BOUNDS
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast
from gfnet_env.tasks import TASKS, Task

# Policies that no one has to train, as far as pictures and network allow them.
_FIXED = ("random", "center", "grid", "saliency", "heat", "target")


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions(PartsOptions):
    """What to run on which tasks, and where."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Standard tasks."""
    algorithms: tuple[str, ...] | None = None
    """Specs of learners: ppo, sac:ent_coef=0.1, module:NAME of your own, …; by default all that
    take the actions of a task."""
    seeds: Annotated[tuple[int, ...], AtLeast(0)] = (0, 1, 2)
    """Seeds of each learner."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.tasks if name not in TASKS]
        if unknown:
            raise ValueError(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
        check_names(self.algorithms or ())
        for name in self.tasks:
            self.learners(name)

    def learners(self, task: str) -> Sequence[str]:
        """The learners to run on a task."""
        actions = TASKS[task].parts.get("actions")
        if self.algorithms is not None:
            for spec in self.algorithms:
                choose_actions(spec, actions)
            return self.algorithms
        return [name for name in LEARNERS if takes(name, actions)]


def leaderboard(options: LeaderboardOptions) -> None:
    """Run what ``out/results.json`` lacks, and write it and README.md after every run."""
    for name in options.tasks:
        fixed: Parts = {f"{name} policies": partial(_policies, options, TASKS[name])}
        run_parts(options.out, fixed, (0,), report)
        learned: Parts = {
            f"{name} {spec}": partial(_learned, options, name, spec)
            for spec in options.learners(name)
        }
        run_parts(options.out, learned, options.seeds, report)


def _policies(options: LeaderboardOptions, task: Task, _: int) -> dict[str, Any]:
    """What policies reach that learn nothing."""
    gfnet = EarlyExitGFNet.load(task.folder).to(resolve_device(options.control.device))
    images = ImageOptions(images=task.images, reading=options.reading).open(gfnet.model, "test")
    names = allowed_policies(_FIXED, gfnet.model, images)
    policies = choose_policies(names, gfnet.policy, images, oracle_images=0)
    records = record_policies(gfnet.model, policies, images, 0, PlainConsole())
    compared = compare_records(records, sources=images.sources)
    return {"policies": {name: _row(found) for name, found in compared.items()}}


def _learned(options: LeaderboardOptions, name: str, spec: str, seed: int) -> dict[str, Any]:
    """What a learner reaches."""
    task = TASKS[name]
    run = options.run / name / f"{folder_name(spec)}-{seed}"
    config = PolicyConfig.of(
        run=run,
        network=task.folder,
        images=task.images,
        algorithm=spec,
        timesteps=task.timesteps,
        seed=seed,
        oracle_images=0,
        curve_points=0,
        **task.parts,
        **options.shared,
    )
    train_policy(config)
    found = PolicyResults.read(run / "results.json")
    steps = {"environment_steps": found.environment_steps}
    return {"policies": {spec: _row(found.policies[LEARNED]) | steps}}


def _row(found: PolicyResult) -> dict[str, Any]:
    over = found.over_random
    return {"accuracy": found.accuracy} | ({} if over is None else {"over_random": over.to_json()})


def report(results: Results) -> Iterator[str]:
    """The lines of README.md."""
    yield "# Leaderboard"
    for name, task in TASKS.items():
        found = standings(results, name)
        if found:
            yield from ("", f"## {name}", "", f"{task.title[0].upper()}{task.title[1:]}.", "")
            yield from table(found)


def standings(results: Results, task: str) -> dict[str, list[Mapping[str, Any]]]:
    """What each policy reached on a task with each seed, the best first."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for part, seeds in results.items():
        if part.partition(" ")[0] == task:
            for found in seeds.values():
                for name, each in found["policies"].items():
                    rows.setdefault(name, []).append(each)
    return dict(sorted(rows.items(), key=lambda each: -_score(each[1])))


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The standings of a task, as Markdown; scores are interquartile means over seeds."""
    looks = len(next(iter(rows.values()))[0]["accuracy"]) - 1
    after = ["after one look"] if looks > 1 else []
    yield from header("policy", "looks learned from", *after, "score", "over random looks", "seeds")
    for name, runs in rows.items():
        score, interval = f"{_score(runs):.1%}", interquartile_mean_interval(_scores(runs))
        if interval:
            score += " ({:.1%} to {:.1%})".format(*interval)
        steps = max(each.get("environment_steps", 0) for each in runs)
        first = [f"{fmean(each['accuracy'][1] for each in runs):.1%}"] if after else []
        over = [each["over_random"] for each in runs if "over_random" in each]
        yield row(
            f"*{name}*" if name in BOUNDS else name,
            f"{steps:,}" if steps else "",
            *first,
            score,
            f"{fmean(each['difference'] for each in over):+.1%}" if over else "",
            str(len(runs)),
        )


def _score(runs: Sequence[Mapping[str, Any]]) -> float:
    return interquartile_mean(_scores(runs))


def _scores(runs: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """The accuracy of each run after the last look."""
    return np.array([each["accuracy"][-1] for each in runs])
