"""Throughput of environments and of the training of a policy, in rounds that take turns."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from gfnet_agents.learners.sb3 import StableBaselinesVecEnv
from gfnet_agents.learners.sb3.algorithms import PPOLearner
from gfnet_env.benchmarks.results import Result
from gfnet_env.benchmarks.stopwatch import Stopwatch
from gfnet_env.benchmarks.throughput import (
    Contender,
    Rate,
    Setting,
    ThroughputConfig,
    bare_encoders,
    environments,
    feature_sources,
    ratio,
    ratios,
    time_rounds,
)
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.features import LiveFeatures, MakeFeatures
from gfnet_env.files import write_json
from gfnet_env.runs import provenance

_SINGLE = "single environments in DummyVecEnv"


@dataclass(frozen=True)
class EnvironmentRates(Result):
    """How fast an environment is. Its resets, which glance, are timed but are no steps."""

    steps_per_second: Rate
    views_per_second: Rate


@dataclass(frozen=True)
class TrainingRate(Result):
    """How fast PPO trains, in environment steps.

    Attributes:
        share_of_bare_encoders: Its views a second over those of bare encoders.
        time: Shares of the time of an update and of the steps before it, by what takes them.
    """

    steps_per_second: Rate
    share_of_bare_encoders: float
    time: Mapping[str, float]


@dataclass(frozen=True)
class ThroughputResult(Result):
    """All measurements, by the names of the contenders."""

    config: Mapping[str, Any]
    encoder: str
    patch_size: int
    focus_steps: int
    device: str
    environments: Mapping[str, EnvironmentRates]
    ratios: Mapping[str, float]
    training: Mapping[str, TrainingRate]
    provenance: Mapping[str, Any]


def benchmark(config: ThroughputConfig) -> ThroughputResult:
    """Time environments and the training of a policy, write the results and print them.

    Wrappers around the calls of the encoders, the policy and its update, the rollout buffer and
    what copies observations measure how PPO spends its time; the rest of a step is the
    environment's.

    Raises:
        ValueError: A value is wrong.
    """
    setting = Setting.of(config)
    device = setting.model.device
    with TemporaryDirectory() as folder:
        sources = feature_sources(setting, config.cells, Path(folder) / "filled")
        contenders = {
            **bare_encoders(setting),
            **environments(setting, sources, config.cells, Path(folder) / "cold"),
            _SINGLE: _singles(setting),
        }
        times = time_rounds(contenders, config.repeats, device, "environments")
        training = _time_training(config, setting, sources) if config.training_repeats else {}
    single = ratio(times["live, float32"], times[_SINGLE])
    results = ThroughputResult(
        config=config.to_json(),
        encoder=setting.encoder,
        patch_size=setting.model.view.size,
        focus_steps=setting.model.focus_steps,
        device=str(device),
        environments={
            name: EnvironmentRates(Rate.of(taken, setting.steps), Rate.of(taken, setting.views))
            for name, taken in times.items()
        },
        ratios=ratios(times) | {f"live, float32 / {_SINGLE}": single},
        training=training,
        provenance=provenance(),
    )
    if config.out is not None:
        write_json(config.out, results.to_json())
    _print(results, Console())
    return results


def _singles(setting: Setting) -> Contender:
    """As many single environments, each of which calls the encoders for its own image."""
    one = partial(GlanceFocusEnv, model=setting.model, images=setting.images)
    env = DummyVecEnv([one] * setting.num_envs)
    env.seed(0)
    return Contender(lambda: [env.step(actions) for actions in setting.actions], env.reset)


def _time_training(
    config: ThroughputConfig, setting: Setting, sources: Mapping[str, MakeFeatures]
) -> dict[str, TrainingRate]:
    """Rounds of PPO, one update each, after bare encoders that see as many views as it takes.

    The machine's pace changes within seconds. Encoders that run for as long, and just before the
    agents of their precision, keep that out of the ratio.
    """
    agents = {name: _agent(config, setting, source) for name, source in sources.items()}
    episodes = max(1, max(agent.n_steps for agent in agents.values()) // len(setting.actions))
    contenders: dict[str, Contender] = {}
    for bare, encoders in bare_encoders(setting).items():
        contenders[bare] = Contender(partial(_repeat, encoders.run, episodes))
        contenders |= {
            name: Contender(partial(_update, agent))
            for name, agent in agents.items()
            if _bare_for(name) == bare
        }
    times = time_rounds(contenders, config.training_repeats, setting.model.device, "training")
    results = {}
    for name, agent in agents.items():
        steps = agent.n_steps * agent.n_envs
        steps_per_view = steps / (setting.views * episodes)
        share = round(steps_per_view * ratio(times[name], times[_bare_for(name)]), 4)
        results[name] = TrainingRate(Rate.of(times[name], steps), share, _time_shares(agent))
    return results


def _bare_for(source: str) -> str:
    """The bare encoders that have the precision of a feature source."""
    return f"bare encoders, {'bfloat16' if 'bfloat16' in source else 'float32'}"


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _agent(config: ThroughputConfig, setting: Setting, source: MakeFeatures) -> OnPolicyAlgorithm:
    env = setting.environment(source)
    learner = PPOLearner(env, seed=config.seed, device=setting.model.device, timesteps=1)
    assert isinstance(learner.agent, OnPolicyAlgorithm)
    return learner.agent


def _update(agent: OnPolicyAlgorithm) -> None:
    """Take as many steps as an update of the policy needs, and update it."""
    agent.learn(agent.n_steps * agent.n_envs, reset_num_timesteps=False)


def _time_shares(agent: OnPolicyAlgorithm) -> dict[str, float]:
    """See ``TrainingRate.time``."""
    env = agent.env
    assert isinstance(env, StableBaselinesVecEnv)
    features = env.env.features
    watch = Stopwatch(features.model.device)
    calls: list[tuple[Any, str, str]] = [
        *[(features, "_encode", "encoder")] * isinstance(features, LiveFeatures),
        (env, "step_wait", "environment"),
        (env.env, "_observations", "copies"),
        *((agent.policy, name, "policy") for name in ("forward", "predict_values")),
        (agent, "train", "policy"),
        *(
            (agent.rollout_buffer, name, "buffer")
            for name in ("reset", "add", "compute_returns_and_advantage", "_get_samples")
        ),
    ]
    with ExitStack() as stack:
        for call in calls:
            stack.enter_context(watch.wrap(*call))
        with watch.label("rest"):
            _update(agent)
    return {name: round(share, 4) for name, share in watch.shares().items()}


def _print(results: ThroughputResult, console: Console) -> None:
    title = f"{results.encoder}, {results.patch_size}×{results.patch_size} patches"
    table = Table("", "environment steps/s", "least to most", "views/s", title=title)
    for name, timed in results.environments.items():
        steps, views = timed.steps_per_second, timed.views_per_second.median
        spread = f"{steps.min:,.0f} to {steps.max:,.0f}"
        table.add_row(name, f"{steps.median:,.0f}", spread, f"{views:,.0f}")
    compared = Table("how many times as fast", "median of the rounds' ratios")
    for name, value in results.ratios.items():
        compared.add_row(name, f"{value:.3f}")
    console.print(table, compared)
    if not results.training:
        return
    parts = ["encoder", "environment", "copies", "policy", "buffer", "rest"]
    training = Table("PPO", "environment steps/s", "of bare encoders", *parts)
    for name, trained in results.training.items():
        shares = [f"{trained.time.get(part, 0.0):.0%}" for part in parts]
        speed = f"{trained.steps_per_second.median:,.0f}"
        training.add_row(name, speed, f"{trained.share_of_bare_encoders:.3f}", *shares)
    console.print(training)
