"""Throughput of environments and of policy training, timed in turn in rounds."""

import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from rich.console import Console
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from gfnet_agents.learners import (
    Learner,
    StableBaselinesLearner,
    TorchPPOLearner,
    build_learner,
)
from gfnet_env.benchmarks.results import Result, Spread
from gfnet_env.benchmarks.rounds import Contender, speedup, time_rounds
from gfnet_env.benchmarks.stopwatch import Stopwatch
from gfnet_env.console import PlainConsole, PlainTable, track
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.features import CachedFeatures, LiveFeatures, MakeFeatures
from gfnet_env.files import check_files, write_json
from gfnet_env.images import ArrayImages, ImageSet, load_images
from gfnet_env.models import GlanceFocusNetwork
from gfnet_env.precision import Precision, autocast
from gfnet_env.runs import provenance, resolve_device
from gfnet_env.settings import AtLeast, Seed, Settings
from gfnet_env.zoo import DEFAULT, FOLDER

_ALGORITHMS = ("ppo", "torch-ppo")
_LIVE, _SINGLE = "live, float32", "single environments in DummyVecEnv"


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig(Settings):
    """What to time."""

    encoder: str | None = None
    """Spec of both encoders, with random weights and on random images; by default the packaged
    network, on its own images."""
    patch_size: Annotated[int, AtLeast(1)] = 96
    """P for the given encoder, in pixels."""
    image_size: Annotated[int, AtLeast(1)] = 224
    """Side of the random images, in pixels."""
    focus_steps: Annotated[int, AtLeast(1)] = 3
    """Looks per episode with the given encoder."""
    num_envs: Annotated[int, AtLeast(1)] = 64
    """Number of images looked at in parallel."""
    cells: Annotated[int, AtLeast(1)] = 13
    """Locations of cached windows along each axis."""
    repeats: Annotated[int, AtLeast(1)] = 15
    """Number of rounds of the environments; each takes one episode of every image."""
    training_repeats: Annotated[int, AtLeast(0)] = 5
    """Number of rounds of training; each takes one update of each PPO."""
    threads: Annotated[int, AtLeast(1)] = 2
    """Threads of torch."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    seed: Seed = 0
    """Seed of images, weights and actions."""
    out: Path | None = None
    """File for the results, JSON; by default none."""


@dataclass(frozen=True)
class EnvironmentRates(Result):
    """How fast an environment is. Resets, which glance, are timed but do not count as steps."""

    steps_per_second: Spread
    views_per_second: Spread


@dataclass(frozen=True)
class TrainingRate(Result):
    """How fast a learner trains, in environment steps.

    Attributes:
        share_of_bare_encoders: Its views per second, divided by those of bare encoders.
        time: Shares of the time of an update and the steps before it, by activity.
    """

    steps_per_second: Spread
    share_of_bare_encoders: float
    time: Mapping[str, float]


@dataclass(frozen=True)
class ThroughputResult(Result):
    """All measurements, by the name of the contender."""

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

    Wrappers around the encoders, the policy and its update, the rollout buffer and the copying of
    observations measure how PPO spends its time; the rest of a step is the environment's.

    Raises:
        OSError: ``config.out`` cannot be written.
        ValueError: A value is wrong.
    """
    check_files(config.out)
    setting = _Setting.of(config)
    device = setting.model.device
    with TemporaryDirectory() as folder:
        sources = _feature_sources(setting, config.cells, Path(folder) / "filled")
        cold = Path(folder) / "cold"
        emptied = partial(CachedFeatures, cells=config.cells, folder=cold)
        contenders = {
            **_bare_encoders(setting),
            **{name: _episodes(setting, source) for name, source in sources.items()},
            "cached, cold": _episodes(setting, emptied, empty=cold),
            _SINGLE: _singles(setting),
        }
        times = time_rounds(contenders, config.repeats, device, "environments")
        training = _time_training(config, setting, sources) if config.training_repeats else {}
    results = ThroughputResult(
        config=config.to_json(),
        encoder=setting.model.config.encoder,
        patch_size=setting.model.view.size,
        focus_steps=setting.model.focus_steps,
        device=str(device),
        environments={
            name: EnvironmentRates(_rate(taken, setting.steps), _rate(taken, setting.views))
            for name, taken in times.items()
        },
        ratios=ratios(times),
        training=training,
        provenance=provenance(),
    )
    if config.out is not None:
        write_json(config.out, results.to_json())
    _print(results, PlainConsole())
    return results


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How many times as fast one contender is as another, per comparison, within each round."""
    pairs = {
        "live / bare encoders, float32": (_LIVE, "bare encoders, float32"),
        "live / bare encoders, bfloat16": ("live, bfloat16", "bare encoders, bfloat16"),
        "bfloat16 / float32, live": ("live, bfloat16", _LIVE),
        "glances kept / live, float32": ("live, float32, glances kept", _LIVE),
        "cached, warm / live, float32": ("cached, warm", _LIVE),
        "cached, cold / live, float32": ("cached, cold", _LIVE),
        f"{_LIVE} / {_SINGLE}": (_LIVE, _SINGLE),
    }
    return {name: speedup(times[one], times[other]).median for name, (one, other) in pairs.items()}


def _rate(times: Sequence[float], count: int) -> Spread:
    """How many times per second something was done, given ``count`` times per round."""
    return Spread.of([count / each for each in times])


@dataclass(frozen=True)
class _Setting:
    """The settings that all contenders share.

    Attributes:
        model: The model.
        images: Two per sub-environment: one for the round, and one for its last reset.
        actions: Actions of a round, (focus steps, sub-environments, 2).
    """

    model: GlanceFocusNetwork
    images: ImageSet
    actions: npt.NDArray[np.float32]

    @classmethod
    def of(cls, config: ThroughputConfig) -> Self:
        """The model, the images and the actions that a configuration names."""
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        count = 2 * config.num_envs
        if config.encoder is None:
            network = GlanceFocusNetwork.load(FOLDER / DEFAULT)
            scenes = load_images(f"cluttered-digits:scenes={count}", "train", seed=config.seed)
            # Drawn once, since only the environment is timed.
            images = ArrayImages(scenes[:].contiguous(), scenes.labels, scenes.class_names)
        else:
            network = GlanceFocusNetwork.build(
                encoder=config.encoder,
                patch_size=config.patch_size,
                num_classes=10,
                focus_steps=config.focus_steps,
            ).eval()
            shape = (count, 3, config.image_size, config.image_size)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            images = ArrayImages(pixels, rng.integers(0, 10, count))
        steps = (network.focus_steps, config.num_envs, 2)
        actions = rng.uniform(-1, 1, steps).astype(np.float32)
        network.to(resolve_device(config.device))
        return cls(network, images, actions)

    @property
    def num_envs(self) -> int:
        """Sub-environments."""
        return self.actions.shape[1]

    @property
    def steps(self) -> int:
        """Environment steps of a round."""
        return self.actions.shape[0] * self.num_envs

    @property
    def views(self) -> int:
        """Views that the encoders see in a round."""
        return self.steps + self.num_envs

    def environment(self, features: MakeFeatures) -> GlanceFocusVectorEnv:
        """Make a vector environment with some features."""
        return GlanceFocusVectorEnv(
            self.num_envs,
            model=self.model,
            images=self.images,
            features=features,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )


def _feature_sources(setting: _Setting, cells: int, folder: Path) -> dict[str, MakeFeatures]:
    """All feature sources; cached features are computed here, once for all."""
    cached = partial(CachedFeatures, cells=cells, folder=folder)
    filled = cached(setting.model, setting.images)
    for index in track(range(len(setting.images)), "filling the cache"):
        filled.fill(np.array([index]))
    bfloat16 = partial(LiveFeatures, precision="bfloat16")
    return {
        _LIVE: LiveFeatures,
        "live, bfloat16": bfloat16,
        "live, float32, glances kept": partial(LiveFeatures, keep_glances=True),
        "live, bfloat16, glances kept": partial(bfloat16, keep_glances=True),
        "cached, warm": cached,
    }


def _bare_encoders(setting: _Setting, episodes: int = 1) -> dict[str, Contender]:
    """The encoders alone, on prepared batches of as many views as some episodes have."""
    model, size = setting.model, setting.model.view.size
    generator = torch.Generator().manual_seed(0)
    shape = (setting.num_envs, 3, size, size)
    ready = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(model.device)

    @torch.no_grad()
    def run(precision: Precision) -> None:
        with autocast(model.device, precision):
            for _ in range(episodes):
                model.encode_overview(ready)
                for _ in setting.actions:
                    model.encode_window(ready)

    return {f"bare encoders, {name}": Contender(partial(run, name)) for name in get_args(Precision)}


def _episodes(setting: _Setting, source: MakeFeatures, empty: Path | None = None) -> Contender:
    """One episode of each image; if ``empty`` is given, that folder is removed before."""
    env = setting.environment(source)

    def prepare() -> None:
        nonlocal env
        if empty is not None:
            shutil.rmtree(empty, ignore_errors=True)
            # Every new store prints how large it may become.
            with redirect_stdout(io.StringIO()):
                env = setting.environment(source)
        # Every round uses the same images, each only once.
        env.reset(seed=0, options={"indices": range(2 * env.num_envs)})

    def run() -> None:
        # The last step glances at the next images.
        for actions in setting.actions:
            env.step(actions)

    return Contender(run, prepare)


def _singles(setting: _Setting) -> Contender:
    """The same number of single environments; each calls the encoders for its own image."""
    one = partial(GlanceFocusEnv, model=setting.model, images=setting.images)
    env = DummyVecEnv([one] * setting.num_envs)
    env.seed(0)
    return Contender(lambda: [env.step(actions) for actions in setting.actions], env.reset)


def _time_training(
    config: ThroughputConfig, setting: _Setting, sources: Mapping[str, MakeFeatures]
) -> dict[str, TrainingRate]:
    """Time rounds of PPOs, one update each, after bare encoders on the same number of views.

    The machine's speed changes within seconds. The encoders run for the same time, just before the
    agents of their precision, so these changes do not affect the ratio.
    """
    learners = {
        f"{algorithm}, {name}": _learner(algorithm, config, setting.environment(source))
        for name, source in sources.items()
        for algorithm in _ALGORITHMS
    }
    # The first update, which is not timed, shows how many steps one takes.
    steps = {name: _update(learner) for name, (learner, _) in learners.items()}
    episodes = max(1, max(steps.values()) // setting.steps)
    contenders: dict[str, Contender] = {}
    for bare, encoders in _bare_encoders(setting, episodes).items():
        contenders[bare] = encoders
        contenders |= {
            name: Contender(partial(_update, learner))
            for name, (learner, _) in learners.items()
            if _bare_for(name) == bare
        }
    times = time_rounds(contenders, config.training_repeats, setting.model.device, "training")
    results = {}
    for name, (learner, env) in learners.items():
        per_view = steps[name] / (setting.views * episodes)
        share = round(per_view * speedup(times[name], times[_bare_for(name)]).median, 4)
        rate = _rate(times[name], steps[name])
        results[name] = TrainingRate(rate, share, _time_shares(learner, env))
    return results


def _bare_for(source: str) -> str:
    """The bare encoders with the precision of a feature source."""
    return f"bare encoders, {'bfloat16' if 'bfloat16' in source else 'float32'}"


def _learner(
    algorithm: str, config: ThroughputConfig, env: GlanceFocusVectorEnv
) -> tuple[Learner, GlanceFocusVectorEnv]:
    device = env.model.device
    return build_learner(algorithm, env, seed=config.seed, device=device, timesteps=2**40), env


class _UpdatedError(Exception):
    """Ends the learning."""


def _update(learner: Learner) -> int:
    """Take as many steps as an update of the policy needs, and update it; returns their number."""
    begun = learner.steps

    def callback() -> None:
        if learner.steps > begun:
            raise _UpdatedError

    with suppress(_UpdatedError):
        learner.learn(callback)
    return learner.steps - begun


def _time_shares(learner: Learner, env: GlanceFocusVectorEnv) -> dict[str, float]:
    """See ``TrainingRate.time``."""
    features = env.features
    watch = Stopwatch(features.model.device)
    calls: list[tuple[Any, str, str]] = [
        *[(features, "_encode", "encoder")] * isinstance(features, LiveFeatures)
    ]
    if isinstance(learner, TorchPPOLearner):
        calls += [
            (env, "step_tensors", "environment"),
            *((learner.network, name, "policy") for name in ("forward", "embed_glances")),
            (learner, "_update", "policy"),
        ]
    else:
        assert isinstance(learner, StableBaselinesLearner)
        agent = learner.agent
        assert isinstance(agent, OnPolicyAlgorithm)
        calls += [
            (agent.env, "step_wait", "environment"),
            (env, "_observations", "copies"),
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
            _update(learner)
    return {name: round(share, 4) for name, share in watch.shares().items()}


def _print(results: ThroughputResult, console: Console) -> None:
    title = f"{results.encoder}, {results.patch_size}×{results.patch_size} patches"
    table = PlainTable("", "environment steps/s", "least to most", "views/s", title=title)
    for name, timed in results.environments.items():
        steps, views = timed.steps_per_second, timed.views_per_second.median
        spread = f"{steps.min:,.0f} to {steps.max:,.0f}"
        table.add_row(name, f"{steps.median:,.0f}", spread, f"{views:,.0f}")
    compared = PlainTable("how many times as fast", "median of the rounds' ratios")
    for name, value in results.ratios.items():
        compared.add_row(name, f"{value:.3f}")
    console.print(table, compared)
    if not results.training:
        return
    parts = ["encoder", "environment", "copies", "policy", "buffer", "rest"]
    training = PlainTable("training", "environment steps/s", "of bare encoders", *parts)
    for name, trained in results.training.items():
        shares = [f"{trained.time.get(part, 0.0):.0%}" for part in parts]
        speed = f"{trained.steps_per_second.median:,.0f}"
        training.add_row(name, speed, f"{trained.share_of_bare_encoders:.3f}", *shares)
    console.print(training)
