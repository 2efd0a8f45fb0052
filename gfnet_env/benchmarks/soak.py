"""A long use of the environment and of the assembled network: what it leaves in the process."""

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import torch

from gfnet_env.benchmarks.report import new_figure, save_figure
from gfnet_env.benchmarks.results import Result
from gfnet_env.console import PlainConsole, track
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.files import replacing, write_json
from gfnet_env.images import ArrayImages
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.models import GlanceFocusNetwork
from gfnet_env.policies import RandomPolicy
from gfnet_env.runs import check_free, provenance
from gfnet_env.settings import AtLeast, Seed, Settings

_MOST_PICTURES = 64


@dataclass(frozen=True, kw_only=True)
class SoakConfig(Settings):
    """How long to use them."""

    out: Path
    """Folder for the results."""
    steps: Annotated[int, AtLeast(1)] = 10_000_000
    """Steps of all sub-environments together."""
    predictions: Annotated[int, AtLeast(1)] = 100_000
    """Calls of the network, with batches that change in size."""
    num_envs: Annotated[int, AtLeast(1)] = 256
    """Number of images looked at in parallel."""
    samples: Annotated[int, AtLeast(2)] = 50
    """Number of times that the process is looked at, during the steps and during the calls."""
    seed: Seed = 0
    """Seed of images, network and actions."""
    overwrite: bool = False
    """Whether existing results may be replaced."""


@dataclass(frozen=True, kw_only=True)
class Sample(Result):
    """The process after some steps or calls.

    Attributes:
        count: Steps or calls so far.
        memory: Resident memory, in MiB.
        descriptors: Open files, sockets and pipes.
        threads: Threads of the process.
    """

    count: int
    memory: float
    descriptors: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Soak(Result):
    """What ``soak`` found; ``growth`` is of memory, in MiB, after the first tenth of the use."""

    steps: tuple[Sample, ...]
    predictions: tuple[Sample, ...]
    growth: dict[str, float]
    provenance: dict[str, Any]


def soak(config: SoakConfig) -> Soak:
    """Step an environment and call a network for long, and write results.json and soak.png.

    Both use a tiny network and images of noise.

    Raises:
        FileExistsError: Results exist already, and ``overwrite`` is off.
    """
    check_free(config.out, overwrite=config.overwrite)
    with replacing(config.out) as new:
        rng = np.random.default_rng(config.seed)
        pixels = rng.integers(0, 256, (256, 3, 32, 32), dtype=np.uint8)
        images = ArrayImages(pixels, np.arange(len(pixels)) % 4)
        torch.manual_seed(config.seed)
        network = GlanceFocusNetwork.build(
            encoder="compact:widths=[4],strides=[4]", patch_size=8, num_classes=4, focus_steps=5
        ).eval()
        steps = _samples("steps", _stepping(network, images, config), config.steps, config.samples)
        calls = _samples(
            "predictions", _predicting(network, images, rng), config.predictions, config.samples
        )
        uses = {"steps": steps, "predictions": calls}
        growth = {name: _growth(found) for name, found in uses.items()}
        results = Soak(**uses, growth=growth, provenance=provenance(command=False))
        write_json(new / "results.json", results.to_json())
        _plot(results, new / "soak.png")
    console = PlainConsole()
    for name, found in uses.items():
        console.print(
            f"{found[-1].count:,} {name}: memory {growth[name]:+.1f} MiB, descriptors "
            f"{found[0].descriptors} to {found[-1].descriptors}, threads {found[0].threads} to "
            f"{found[-1].threads}"
        )
    return results


def _stepping(
    network: GlanceFocusNetwork, images: ArrayImages, config: SoakConfig
) -> Callable[[], int]:
    """A function that takes a step in all sub-environments and returns their number."""
    env = GlanceFocusVectorEnv(
        config.num_envs, model=network, images=images, autoreset_mode="SameStep"
    )
    env.reset(seed=config.seed)
    env.action_space.seed(config.seed)

    def step() -> int:
        env.step(env.action_space.sample())
        return env.num_envs

    return step


def _predicting(
    network: GlanceFocusNetwork, images: ArrayImages, rng: np.random.Generator
) -> Callable[[], int]:
    """A function that classifies some pictures and returns 1."""
    gfnet = EarlyExitGFNet(network, RandomPolicy(), [0.3] * 5 + [0.0])

    def predict() -> int:
        count = rng.integers(1, _MOST_PICTURES + 1)
        gfnet(images[rng.integers(len(images), size=count)])
        return 1

    return predict


def _samples(name: str, use: Callable[[], int], count: int, samples: int) -> tuple[Sample, ...]:
    """Samples of the process: one before its use, and others at equal distances."""

    def taken() -> Iterator[Sample]:
        done = 0
        process = psutil.Process()
        for due in track(np.linspace(0, count, samples + 1).astype(int).tolist(), name):
            while done < due:
                done += use()
            gc.collect()
            yield Sample(
                count=done,
                memory=process.memory_info().rss / 2**20,
                descriptors=process.num_handles() if sys.platform == "win32" else process.num_fds(),
                threads=process.num_threads(),
            )

    return tuple(taken())


def _growth(samples: tuple[Sample, ...]) -> float:
    """By how much memory grew after the first tenth, which warms up."""
    return samples[-1].memory - samples[-(-len(samples) // 10)].memory


def _plot(results: Soak, path: Path) -> None:
    figure = new_figure(11, 4)
    uses = {"environment steps": results.steps, "predictions": results.predictions}
    for axes, (name, samples) in zip(figure.subplots(1, 2), uses.items(), strict=True):
        counts = [each.count for each in samples]
        memory = [each.memory for each in samples]
        lines = axes.plot(counts, memory, "k", label="memory")
        axes.set(xlabel=name, ylabel="resident memory (MiB)", ylim=(0, 1.2 * max(memory)))
        axes.grid(alpha=0.3)
        other = axes.twinx()
        for key, style in (("descriptors", ":"), ("threads", "--")):
            numbers = [getattr(each, key) for each in samples]
            lines += other.plot(counts, numbers, style, label=key)
        other.set(ylabel="descriptors, threads", ylim=(0, None))
        other.legend(handles=lines, loc="lower right")
    save_figure(figure, path)
