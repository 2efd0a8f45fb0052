"""What grows with a set, with the environment, with pictures and with classes, and how fast."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar, get_args

import numpy as np
import torch
from PIL import Image

from gfnet_env.benchmarks.processes import MIB, begin_peak, in_a_process, peak_bytes
from gfnet_env.benchmarks.results import Result, rounded
from gfnet_env.console import PlainConsole, PlainTable, track
from gfnet_env.env.sampling import Sampling
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.files import check_files, write_json
from gfnet_env.images import ArrayImages, ImageSet, load_images
from gfnet_env.models import GlanceFocusNetwork
from gfnet_env.runs import provenance
from gfnet_env.settings import AtLeast, Settings

# What does not grow is fixed at these numbers.
_PICTURES, _ENVS, _SIDE, _CLASSES, _PATCH = 1000, 16, 128, 10, 32
# Looks of an episode.
_LOOKS = 12
# File systems allow some 65,000 names of one file.
_NAMES = 30_000

Sizes = tuple[Annotated[int, AtLeast(1)], ...]
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class ScaleConfig(Settings):
    """What to measure."""

    pictures: Sizes = (1000, 10_000, 100_000, 1_000_000)
    """Numbers of pictures in a folder."""
    envs: Sizes = (1, 16, 256, 1024)
    """Numbers of sub-environments."""
    sides: Sizes = (64, 256, 1024, 4096)
    """Sides of square pictures, in pixels."""
    classes: Sizes = (10, 100, 1000, 10_000)
    """Numbers of classes."""
    out: Path | None = None
    """File for the results, JSON; by default none."""

    def sizes(self) -> dict[str, Sizes]:
        """The numbers of each quantity."""
        return {name: getattr(self, name) for name in _QUANTITIES}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, sizes in self.sizes().items():
            if any(one >= other for one, other in pairwise(sizes)):
                raise ValueError(f"{name} must be numbers in ascending order, not {sizes}")


@dataclass(frozen=True)
class Taken(Result):
    """What a part took: CPU seconds, and MiB at its peak."""

    seconds: float
    mib: float


@dataclass(frozen=True)
class Scale(Result):
    """What ``measure_scale`` found: by quantity, part and number."""

    taken: Mapping[str, Mapping[str, Mapping[str, Taken]]]
    provenance: Mapping[str, Any] = field(default_factory=dict)


def measure_scale(config: ScaleConfig) -> Scale:
    """Measure each number of each quantity in a process of its own, and print a table.

    Memory counts above that of a process with the library imported, or with the environment made.

    Raises:
        OSError: ``config.out`` cannot be written.
        ValueError: A number cannot be measured here, for example for want of memory.
    """
    check_files(config.out)
    taken: dict[str, dict[str, dict[str, Taken]]] = {}
    runs = [(name, number) for name, numbers in config.sizes().items() for number in numbers]
    for name, number in track(runs, "scale"):
        try:
            parts = in_a_process(__name__, name, number)
        except RuntimeError as error:
            raise ValueError(
                f"{name} {number:,} cannot be measured ({error}); leave it out"
            ) from error
        for part, found in parts.items():
            taken.setdefault(name, {}).setdefault(part, {})[str(number)] = Taken(*found)
    results = Scale(taken, provenance())
    if config.out is not None:
        write_json(config.out, results.to_json())
    _print(results)
    return results


def _print(results: Scale) -> None:
    table = PlainTable("of", "number", "part", "CPU s", "MiB", "µs each", "bytes each")
    for quantity, parts in results.taken.items():
        for part, by_number in parts.items():
            for number, taken, growth in _with_growth(by_number):
                figures = (f"{taken.seconds:.3f}", f"{taken.mib:.1f}", *growth)
                table.add_row(quantity, f"{number:,}", part, *figures)
    PlainConsole().print(table)


def _with_growth(
    by_number: Mapping[str, Taken],
) -> Iterator[tuple[int, Taken, tuple[str, str]]]:
    """Numbers, what each took, and what each one more took since the number before."""
    before: tuple[int, Taken] | None = None
    for name, taken in by_number.items():
        number, growth = int(name), ("", "")
        if before is not None:
            more = number - before[0]
            micros = (taken.seconds - before[1].seconds) / more * 1e6
            growth = f"{micros:.3g}", f"{(taken.mib - before[1].mib) * MIB / more:.3g}"
        before = number, taken
        yield number, taken, growth


class _Parts:
    """What the parts of one measurement took, by name."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[float, float]] = {}

    def add(self, name: str, work: Callable[[], Made]) -> Made:
        """Do some work, and note what it took."""
        gc.collect()
        before, started = begin_peak(), time.process_time()
        result = work()
        seconds = time.process_time() - started
        self.taken[name] = rounded(seconds), rounded((peak_bytes() - before) / MIB)
        return result

    def add_episodes(self, make: Callable[[], GlanceFocusVectorEnv], note: str = "") -> None:
        """Make an environment, begin episodes and look."""
        env = self.add(f"glances{note}", lambda: _begun(make))
        self.add(f"{_LOOKS} looks{note}", lambda: _looked(env))


def _begun(make: Callable[[], GlanceFocusVectorEnv]) -> GlanceFocusVectorEnv:
    env = make()
    env.reset(seed=0)
    return env


def _looked(env: GlanceFocusVectorEnv) -> None:
    for _ in range(_LOOKS):
        env.step(np.zeros((env.num_envs, 2), np.float32))


def _network(classes: int = _CLASSES) -> GlanceFocusNetwork:
    return GlanceFocusNetwork.build(
        encoder="compact", patch_size=_PATCH, num_classes=classes, focus_steps=_LOOKS
    )


def _images(side: int = _SIDE, classes: int = _CLASSES) -> ArrayImages:
    """Pictures of one class each, all the same, so that they take no memory."""
    count = max(_PICTURES, classes)
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (1, 3, side, side), dtype=np.uint8))
    return ArrayImages(picture.expand(count, -1, -1, -1), np.arange(count) % classes)


def _environment(
    number: int, network: GlanceFocusNetwork, images: ImageSet, sampling: Sampling = "all"
) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(number, model=network, images=images, sampling=sampling)


def _of_pictures(number: int, parts: _Parts) -> None:
    with TemporaryDirectory() as folder:
        _fill(Path(folder), number)
        images = parts.add("folder", lambda: load_images(f"folder:{folder}", "train"))
        network = _network()
        for sampling in get_args(Sampling)[:2]:
            make = partial(_environment, _ENVS, network, images, sampling)
            parts.add_episodes(make, f", {sampling}")


def _fill(folder: Path, number: int) -> None:
    """A tree of pictures, which are names of a few files."""
    noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    for split, count in (("train", number), ("val", _CLASSES), ("test", _CLASSES)):
        for index in range(count):
            path = folder / split / str(index % _CLASSES) / f"{index}.png"
            if index < _CLASSES:
                path.parent.mkdir(parents=True)
            if index % _NAMES == 0:
                source = path
                Image.fromarray(noise).save(path)
            else:
                os.link(source, path)


def _of_envs(number: int, parts: _Parts) -> None:
    images, network = _images(), _network()
    parts.add_episodes(partial(_environment, number, network, images))


def _of_sides(number: int, parts: _Parts) -> None:
    images, network = _images(side=number), _network()
    parts.add_episodes(partial(_environment, _ENVS, network, images))


def _of_classes(number: int, parts: _Parts) -> None:
    network = parts.add("network", lambda: _network(number))
    images = _images(classes=number)
    parts.add_episodes(partial(_environment, _ENVS, network, images))


_QUANTITIES: Mapping[str, Callable[[int, _Parts], None]] = {
    "pictures": _of_pictures,
    "envs": _of_envs,
    "sides": _of_sides,
    "classes": _of_classes,
}


def _work(name: str, number: int) -> dict[str, tuple[float, float]]:
    """The work of each process: seconds and MiB by part."""
    torch.set_num_threads(1)
    # What is imported or set up at the first use does not count.
    _of_envs(_ENVS, _Parts())
    parts = _Parts()
    _QUANTITIES[name](number, parts)
    return parts.taken


if __name__ == "__main__":
    print(json.dumps(_work(sys.argv[1], int(sys.argv[2]))))
