"""Throughput of the live environment against calling its bare encoders on ready batches.

python experiments/benchmark.py
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from rich.progress import track

from gfnet_env import ArrayImages, GlanceFocusNetwork
from gfnet_env.env.vector import GlanceFocusVectorEnv


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to time."""

    encoder: str = "tf_efficientnet_lite0"
    """Both encoders; their weights are random, which changes no time."""
    patch_size: int = 96
    """P, in pixels."""
    image_size: int = 224
    """Side of the random images, in pixels."""
    focus_steps: int = 3
    """Focus steps of an episode."""
    num_envs: int = 64
    """Images looked at side by side."""
    repeats: int = 15
    """Rounds of each, taken in turn; a round is one episode of every image."""
    threads: int = 2
    """Threads of torch."""


def benchmark(config: BenchmarkConfig) -> float:
    """Time both in turn and print images a second; the median ratio of environment to bare."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    size = config.image_size
    pixels = rng.integers(0, 256, (4 * config.num_envs, 3, size, size), dtype=np.uint8)
    network = GlanceFocusNetwork.build(
        encoder=config.encoder,
        patch_size=config.patch_size,
        num_classes=10,
        focus_steps=config.focus_steps,
    ).eval()
    images = ArrayImages(pixels, rng.integers(0, 10, len(pixels)))
    env = GlanceFocusVectorEnv(config.num_envs, network=network, images=images)
    env.reset(seed=0)
    shape = (config.num_envs, 3, config.patch_size, config.patch_size)
    ready = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))

    def environment() -> None:
        # The focus steps of every image, then the step that begins the next episodes.
        for _ in range(config.focus_steps + 1):
            env.step(env.action_space.sample())

    def bare() -> None:
        with torch.no_grad():
            network.global_encoder(ready)
            for _ in range(config.focus_steps):
                network.local_encoder(ready)

    environment()
    bare()
    rounds = [
        (_seconds(environment), _seconds(bare))
        for _ in track(range(config.repeats), description="benchmark")
    ]
    count = config.num_envs * (1 + config.focus_steps)
    for name, times in zip(
        ("live environment", "bare encoders"), zip(*rounds, strict=True), strict=True
    ):
        median = statistics.median(times)
        print(
            f"{name:17} {count / median:8.1f} images/s "
            f"(median of {config.repeats}; {count / max(times):.1f} to {count / min(times):.1f})"
        )
    ratio = statistics.median(alone / inside for inside, alone in rounds)
    print(f"live environment / bare encoders: {ratio:.3f} (median of the rounds' ratios)")
    return ratio


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    benchmark(tyro.cli(BenchmarkConfig, description=__doc__))
