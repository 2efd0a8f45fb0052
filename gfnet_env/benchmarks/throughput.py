"""Environment steps a second: what serves features, against the bare encoders."""

import io
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from rich.progress import track

from gfnet_env.benchmarks.results import Result
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.features import CachedFeatures, LiveFeatures, MakeFeatures
from gfnet_env.images import ArrayImages, ImageSet, load_images
from gfnet_env.models import GlanceFocusNetwork, Model
from gfnet_env.precision import Precision, autocast
from gfnet_env.pretrained import packaged_network
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Settings
from gfnet_env.timing import seconds


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig(Settings):
    """What to time."""

    encoder: str | None = None
    """Both encoders, of random weights, on random images; by default the packaged network, on its
    own images."""
    patch_size: Annotated[int, AtLeast(1)] = 96
    """P of the given encoder, in pixels."""
    image_size: Annotated[int, AtLeast(1)] = 224
    """Side of its random images, in pixels."""
    focus_steps: Annotated[int, AtLeast(1)] = 3
    """Looks of its episodes."""
    num_envs: Annotated[int, AtLeast(1)] = 64
    """Images looked at side by side."""
    cells: Annotated[int, AtLeast(1)] = 13
    """Locations along each axis that cached windows are at."""
    repeats: Annotated[int, AtLeast(1)] = 15
    """Rounds of the environments: one episode of every image each."""
    training_repeats: Annotated[int, AtLeast(0)] = 5
    """Rounds of training: one update of PPO each."""
    threads: Annotated[int, AtLeast(1)] = 2
    """Threads of torch."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    seed: int = 0
    """Of images, weights and actions."""
    out: Path | None = None
    """File for the results, JSON; by default none."""


@dataclass(frozen=True)
class Setting:
    """What all contenders have in common.

    Attributes:
        model: What sees.
        encoder: Spec of its encoders.
        images: Two per sub-environment: that of the round, and that of its last reset.
        num_envs: Sub-environments.
        actions: Of a round, (focus steps, num_envs, 2).
    """

    model: Model
    encoder: str
    images: ImageSet
    num_envs: int
    actions: npt.NDArray[np.float32]

    @classmethod
    def of(cls, config: ThroughputConfig) -> Self:
        """The model, the images and the actions that a configuration names."""
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        count = 2 * config.num_envs
        if config.encoder is None:
            network = packaged_network()
            scenes = load_images(f"cluttered-digits:scenes={count}", "train", seed=config.seed)
            # Drawn once: it is the environment that is timed.
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
        return cls(network, network.config.encoder, images, config.num_envs, actions)

    @property
    def steps(self) -> int:
        """Environment steps of a round."""
        return self.actions.shape[0] * self.num_envs

    @property
    def views(self) -> int:
        """Views that the encoders see in a round."""
        return self.steps + self.num_envs

    def environment(self, features: MakeFeatures) -> GlanceFocusVectorEnv:
        """A vector environment with some features."""
        return GlanceFocusVectorEnv(
            self.num_envs,
            model=self.model,
            images=self.images,
            features=features,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )


@dataclass(frozen=True)
class Contender:
    """Something to time: one round, and what comes before it and is not timed."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Rate(Result):
    """How often something was done per second: median, least and most over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, times: Sequence[float], count: int) -> Self:
        """The rate of ``count`` a round, from the seconds of each round."""
        slowness = (statistics.median(times), max(times), min(times))
        return cls(*(round(count / each, 2) for each in slowness))


def feature_sources(setting: Setting, cells: int, folder: Path) -> dict[str, MakeFeatures]:
    """Every way to serve features; those that are kept are computed here, once for all.

    Args:
        setting: Of the model and the images.
        cells: Of the lattice, along each axis.
        folder: For the store.
    """
    cached = partial(CachedFeatures, cells=cells, folder=folder)
    filled = cached(setting.model, setting.images)
    for index in track(range(len(setting.images)), "filling the cache"):
        filled.fill(np.array([index]))
    bfloat16 = partial(LiveFeatures, precision="bfloat16")
    return {
        "live, float32": LiveFeatures,
        "live, bfloat16": bfloat16,
        "live, float32, glances kept": partial(LiveFeatures, keep_glances=True),
        "live, bfloat16, glances kept": partial(bfloat16, keep_glances=True),
        "cached, warm": cached,
    }


def environments(
    setting: Setting, sources: Mapping[str, MakeFeatures], cells: int, folder: Path
) -> dict[str, Contender]:
    """The environments with each kind of features.

    Args:
        setting: Of the model and the images.
        sources: Of ``feature_sources``.
        cells: Of the lattice, along each axis.
        folder: For a store that is emptied before every round.
    """
    cold = partial(CachedFeatures, cells=cells, folder=folder)
    contenders = {name: _episodes(setting, source) for name, source in sources.items()}
    return contenders | {"cached, cold": _episodes(setting, cold, empty=folder)}


def bare_encoders(setting: Setting) -> dict[str, Contender]:
    """The encoders alone, on batches of views that are ready."""
    model, size = setting.model, setting.model.view.size
    generator = torch.Generator().manual_seed(0)
    shape = (setting.num_envs, 3, size, size)
    ready = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(model.device)

    @torch.no_grad()
    def run(precision: Precision) -> None:
        with autocast(model.device, precision):
            model.encode_overview(ready)
            for _ in setting.actions:
                model.encode_window(ready)

    return {f"bare encoders, {name}": Contender(partial(run, name)) for name in get_args(Precision)}


def time_rounds(
    contenders: Mapping[str, Contender], repeats: int, device: torch.device, description: str
) -> dict[str, list[float]]:
    """Seconds of every round of each; one round that does not count comes first.

    Other work of the machine differs from round to round, so the contenders take turns within one.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in track(range(1 + repeats), description):
        for name, contender in contenders.items():
            contender.prepare()
            taken = seconds(contender.run, device)
            if number > 0:
                times[name].append(taken)
    return times


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast ``one`` is: the median over the rounds."""
    return round(statistics.median(b / a for a, b in zip(one, other, strict=True)), 4)


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How many times as fast the contenders that are to be compared are, within each round."""
    live = "live, float32"
    pairs = {
        "live / bare encoders, float32": (live, "bare encoders, float32"),
        "live / bare encoders, bfloat16": ("live, bfloat16", "bare encoders, bfloat16"),
        "bfloat16 / float32, live": ("live, bfloat16", live),
        "glances kept / live, float32": ("live, float32, glances kept", live),
        "cached, warm / live, float32": ("cached, warm", live),
        "cached, cold / live, float32": ("cached, cold", live),
    }
    return {name: ratio(times[one], times[other]) for name, (one, other) in pairs.items()}


def _episodes(setting: Setting, source: MakeFeatures, empty: Path | None = None) -> Contender:
    """An episode of each image; before it the folder ``empty`` is removed, if any."""
    env = setting.environment(source)

    def prepare() -> None:
        nonlocal env
        if empty is not None:
            shutil.rmtree(empty, ignore_errors=True)
            # Every new store says how large it may become.
            with redirect_stdout(io.StringIO()):
                env = setting.environment(source)
        # Every round is about the same images, and none of them comes twice.
        env.reset(seed=0, options={"indices": range(2 * env.num_envs)})

    def run() -> None:
        # The last step glances at the next images.
        for actions in setting.actions:
            env.step(actions)

    return Contender(run, prepare)
