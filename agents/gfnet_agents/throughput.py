"""Throughput of environments and of the training of a policy, in rounds that take turns."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from gfnet_agents.algorithms import build_agent
from gfnet_agents.vec_env import StableBaselinesVecEnv
from gfnet_env.benchmarks.stopwatch import Stopwatch
from gfnet_env.benchmarks.throughput import (
    Contender,
    Setting,
    ThroughputConfig,
    bare_encoders,
    environments,
    feature_sources,
    open_setting,
    rates,
    ratio,
    ratios,
    time_rounds,
)
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.features import FeatureSource
from gfnet_env.files import write_json
from gfnet_env.runs import provenance, to_json

_SINGLE = "single environments in DummyVecEnv"


def benchmark(config: ThroughputConfig) -> dict[str, Any]:
    """Time environments and the training of a policy, write the results and print them.

    Environment steps are focus steps; a reset, which glances, is timed and not counted. What PPO
    spends its time on is measured by wrapping the calls of the encoders, the policy and its update,
    the rollout buffer, and the copies of observations; the rest of a step is the environment.

    Raises:
        ValueError: A value is wrong.
    """
    setting = open_setting(config)
    device = setting.network.device
    with TemporaryDirectory() as folder:
        sources = feature_sources(setting, config.cells, Path(folder) / "filled")
        contenders = {
            **bare_encoders(setting),
            **environments(setting, sources, config.cells, Path(folder) / "cold"),
            _SINGLE: _singles(setting),
        }
        times = time_rounds(contenders, config.repeats, device, "environments")
        training = _time_training(config, setting, sources) if config.training_repeats else {}
    steps = config.num_envs * len(setting.actions)
    views = config.num_envs * (1 + len(setting.actions))
    compared = ratios(times)
    compared[f"live, float32 / {_SINGLE}"] = ratio(times["live, float32"], times[_SINGLE])
    results = {
        "config": to_json(vars(config)),
        "encoder": setting.network.config.encoder,
        "patch_size": setting.network.patch_size,
        "focus_steps": len(setting.actions),
        "device": str(device),
        "environments": {
            name: {"steps_per_second": rates(taken, steps), "views_per_second": rates(taken, views)}
            for name, taken in times.items()
        },
        "ratios": compared,
        "training": training,
        "provenance": provenance(),
    }
    if config.out is not None:
        write_json(config.out, results)
    _print(results, Console())
    return results


def _singles(setting: Setting) -> Contender:
    """As many single environments, each of which calls the encoders for its own image."""

    def make() -> GlanceFocusEnv:
        return GlanceFocusEnv(network=setting.network, images=setting.images)

    env = DummyVecEnv([make] * setting.num_envs)

    def run() -> None:
        for actions in setting.actions:
            env.step(actions)

    env.seed(0)
    return Contender(run, env.reset)


def _time_training(
    config: ThroughputConfig, setting: Setting, sources: Mapping[str, FeatureSource]
) -> dict[str, Any]:
    """Rounds of PPO, one update each, after bare encoders that see as many images as it takes.

    A machine's pace changes within seconds: encoders that are timed for as long, and just before
    the agents of their precision, keep that out of the ratio.
    """
    agents = {name: _agent(config, setting, source) for name, source in sources.items()}
    device = setting.network.device
    episodes = max(1, max(agent.n_steps for agent in agents.values()) // len(setting.actions))
    contenders: dict[str, Contender] = {}
    for bare, encoders in bare_encoders(setting).items():
        contenders[bare] = Contender(partial(_repeat, encoders.run, episodes))
        contenders |= {
            name: Contender(partial(_update, agent))
            for name, agent in agents.items()
            if _bare_for(name) == bare
        }
    times = time_rounds(contenders, config.training_repeats, device, "training")
    images = config.num_envs * (1 + len(setting.actions)) * episodes
    results = {}
    for name, agent in agents.items():
        steps = agent.n_steps * agent.n_envs
        results[name] = {
            "steps_per_second": rates(times[name], steps),
            # Environment steps a second over images a second.
            "share_of_bare_encoders": round(
                steps / images * ratio(times[name], times[_bare_for(name)]), 4
            ),
            "time": _time_shares(agent),
        }
    return results


def _bare_for(source: str) -> str:
    """The bare encoders that have the precision of a feature source."""
    return f"bare encoders, {'bfloat16' if 'bfloat16' in source else 'float32'}"


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _agent(config: ThroughputConfig, setting: Setting, source: FeatureSource) -> OnPolicyAlgorithm:
    env = StableBaselinesVecEnv(setting.environment(source))
    agent = build_agent("ppo", env, seed=config.seed, device=setting.network.device)
    assert isinstance(agent, OnPolicyAlgorithm)
    return agent


def _update(agent: OnPolicyAlgorithm) -> None:
    """As many steps as an update of the policy needs, and the update."""
    agent.learn(agent.n_steps * agent.n_envs, reset_num_timesteps=False)


def _time_shares(agent: OnPolicyAlgorithm) -> dict[str, float]:
    """What an update and the steps before it spend their time on, as shares of it."""
    env = agent.env
    assert isinstance(env, StableBaselinesVecEnv)
    network = env.env.features.encoding
    watch = Stopwatch(network.device)
    calls: list[tuple[Any, str, str]] = [
        (network.global_encoder, "forward", "encoder"),
        (network.local_encoder, "forward", "encoder"),
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


def _print(results: Mapping[str, Any], console: Console) -> None:
    title = f"{results['encoder']}, {results['patch_size']}×{results['patch_size']} patches"
    table = Table("", "environment steps/s", "least to most", "views/s", title=title)
    for name, timed in results["environments"].items():
        steps, views = timed["steps_per_second"], timed["views_per_second"]
        spread = f"{steps['min']:,.0f} to {steps['max']:,.0f}"
        table.add_row(name, f"{steps['median']:,.0f}", spread, f"{views['median']:,.0f}")
    console.print(table)

    compared = Table("how many times as fast", "median of the rounds' ratios")
    for name, value in results["ratios"].items():
        compared.add_row(name, f"{value:.3f}")
    console.print(compared)

    if not results["training"]:
        return
    parts = ["encoder", "environment", "copies", "policy", "buffer", "rest"]
    training = Table("PPO", "environment steps/s", "of bare encoders", *parts)
    for name, timed in results["training"].items():
        shares = [f"{timed['time'].get(part, 0.0):.0%}" for part in parts]
        steps = f"{timed['steps_per_second']['median']:,.0f}"
        training.add_row(name, steps, f"{timed['share_of_bare_encoders']:.3f}", *shares)
    console.print(training)
