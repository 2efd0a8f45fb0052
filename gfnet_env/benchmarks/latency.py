"""Wall time per image at several budgets, against the full-resolution network in the same run."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from gfnet_env.benchmarks.report import print_latencies
from gfnet_env.data import ImageSet
from gfnet_env.export import export_onnx, export_static
from gfnet_env.files import read_json, weights_digests, write_json
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.inference.latency import seconds
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.perception import StaticNetwork, load_static_networks
from gfnet_env.runs import create_run, resolve_device, save_config

Engine = Literal["torch", "onnx"]


@dataclass(frozen=True, kw_only=True)
class LatencyConfig(ImageOptions):
    """What to time."""

    run: Path
    """Run folder of an assembled network, with the results of evaluate.py in RUN/evaluation."""
    baseline: Path
    """Run folder of static baselines; the one of most resolution is timed."""
    out: Path | None = None
    """Folder for the results; by default RUN/latency."""
    count: int = 192
    """Test images to time, drawn at random."""
    engines: tuple[Engine, ...] = get_args(Engine)
    """What runs the networks: torch, eagerly, and ONNX Runtime."""
    batch_sizes: tuple[int, ...] = (1, 64)
    """Images per batch."""
    budgets: int = 5
    """Budgets to time, evenly over the evaluated ones, beside those of equal accuracy."""
    repeats: int = 7
    """Rounds; everything is timed once in each, in turn."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of torch and of onnxruntime; everything is timed with each of these numbers."""
    seed: int = 0
    """Of the images drawn."""
    device: str = "auto"
    """Where torch runs: auto, cpu, cuda or mps; onnxruntime runs on the CPU."""
    overwrite: bool = False
    """Whether existing results may be replaced."""

    def __post_init__(self) -> None:
        for name in ("count", "budgets", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("batch_sizes", "threads"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def measure_latency(config: LatencyConfig, images: ImageSet | None = None) -> dict[str, Any]:
    """Time the network at several budgets and the static one, and write results.json.

    Everything begins with uint8 pixels at full size in memory and ends with classes: resizing is
    timed, decoding is not.

    Args:
        config: What to time.
        images: The test split, in place of ``config.images``.

    Raises:
        FileNotFoundError: A folder is missing, or the network was not evaluated.
        ImportError: The packages that write and run ONNX are missing.
        ValueError: It was not evaluated with these baselines, or images and network do not fit.
    """
    console = Console()
    device = resolve_device(config.device)
    gfnet = EarlyExitGFNet.load(config.run)
    static = load_static_networks(config.baseline)[-1]
    evaluated = _evaluated(config, static)
    points = _points(evaluated, config.budgets)
    images = images or config.open(gfnet.network, "test")
    check_fit(gfnet.network, images)
    rng = np.random.default_rng(config.seed)
    pixels = images[rng.permutation(len(images))[: config.count]]
    engines: list[tuple[Engine, int, _Calls]] = []
    if "onnx" in config.engines:
        with console.status("export"), tempfile.TemporaryDirectory() as folder:
            export_onnx(gfnet, folder)
            export_static(static, Path(folder) / "static.onnx")
            engines += [
                ("onnx", threads, _onnx_calls(Path(folder), static, threads))
                for threads in config.threads
            ]
    if "torch" in config.engines:
        calls = _torch_calls(gfnet.to(device), static.to(device))
        engines += [("torch", threads, calls) for threads in config.threads]
    out = create_run(config.out or config.run / "latency", overwrite=config.overwrite)
    save_config(out, config)
    for point in points:
        gfnet.set_thresholds(point["thresholds"])
        spent = gfnet(pixels).multiply_adds.cpu().double().mean()
        point["multiply_adds_of_timed"] = float(spent)
    results: dict[str, Any] = {
        "images": len(pixels),
        "repeats": config.repeats,
        "resolution": static.config.resolution,
        "static_accuracy": evaluated["static"][-1]["accuracy"],
        "points": points,
        "timings": [],
    }
    for engine, threads, calls in engines:
        with _torch_threads(threads):
            for batch_size in config.batch_sizes:
                timed = _time(calls, pixels, batch_size, points, config.repeats, device)
                what = {"engine": engine, "threads": threads, "batch_size": batch_size}
                results["timings"].append(what | timed)
    write_json(out / "results.json", results)
    print_latencies(results, console)
    return results


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    # What is computed afterwards must not depend on whether something was timed.
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Calls:
    """How one engine takes a batch in, and what it does with it."""

    prepare: Callable[[Tensor], Any]
    gfnet: Callable[[Any], Any]
    static: Callable[[Any], Any]
    set_thresholds: Callable[[Sequence[float]], None]


def _torch_calls(gfnet: EarlyExitGFNet, static: StaticNetwork) -> _Calls:
    @torch.no_grad()
    def run_static(batch: Tensor) -> Tensor:
        return static(batch.to(gfnet.network.device)).argmax(dim=1).cpu()

    def prepare(batch: Tensor) -> Tensor:
        # As a decoder leaves them.
        return batch.contiguous(memory_format=torch.channels_last)

    return _Calls(
        prepare, lambda batch: gfnet(batch).classes.cpu(), run_static, gfnet.set_thresholds
    )


def _onnx_calls(folder: Path, static: StaticNetwork, threads: int) -> _Calls:
    # Only here, so that timing says what to install where it is missing.
    from gfnet_env.export.runner import Runner, open_session, resize

    runner = Runner(folder, threads=threads)
    session = open_session(folder / "static.onnx", threads)

    def run_static(pictures: Sequence[Any]) -> Any:
        pixels = resize(pictures, static.config.resolution, static.config.interpolation)
        return session.run(None, {"pixels": pixels})[0].argmax(axis=1)

    def prepare(batch: Tensor) -> list[Any]:
        return list(np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy()))

    def set_thresholds(thresholds: Sequence[float]) -> None:
        runner.thresholds = tuple(thresholds)

    return _Calls(prepare, runner.classify, run_static, set_thresholds)


def _evaluated(config: LatencyConfig, static: StaticNetwork) -> dict[str, Any]:
    """The results of ``evaluate``, with this static network."""
    folder = config.run / "evaluation"
    evaluated = read_json(folder / "results.json")
    full = config.baseline / str(static.config.resolution)
    for what, of, weights in (
        ("network", evaluated, weights_digests(config.run)),
        ("best baseline", (evaluated.get("static") or [{}])[-1], weights_digests(full)),
    ):
        if of.get("weights") != weights:
            raise ValueError(
                f"{folder} is not of this {what}: run evaluate.py --run {config.run} "
                f"--baseline {config.baseline} --overwrite"
            )
    return evaluated


def _points(evaluated: Mapping[str, Any], budgets: int) -> list[dict[str, Any]]:
    """What to time of what was evaluated: budgets over the range, and those of equal accuracy."""
    budgeted = evaluated["budgeted"]["geometric"]
    shown = np.linspace(0, len(budgeted) - 1, budgets).round().astype(int)
    points = [{"name": "budget", **budgeted[number]} for number in dict.fromkeys(shown.tolist())]
    equal = [
        {"name": f"{method}, {name.replace('_', ' ')}", **found[name]}
        for method, found in evaluated["comparison"].items()
        for name in ("at_accuracy", "within_interval")
        if found[name] is not None
    ]
    return points + equal


def _time(
    calls: _Calls,
    pixels: Tensor,
    batch_size: int,
    points: Sequence[Mapping[str, Any]],
    repeats: int,
    device: torch.device,
) -> dict[str, Any]:
    """Milliseconds per image of the static network and of every point, in interleaved rounds."""
    batches = [calls.prepare(batch) for batch in torch.split(pixels, batch_size)]

    def run_all(call: Callable[[Any], Any]) -> float:
        return 1e3 * seconds(lambda: [call(batch) for batch in batches], device) / len(pixels)

    run_all(calls.static)
    run_all(calls.gfnet)
    static: list[float] = []
    times: list[list[float]] = [[] for _ in points]
    for _ in track(range(repeats), description=f"batches of {batch_size}"):
        static.append(run_all(calls.static))
        for point, taken in zip(points, times, strict=True):
            calls.set_thresholds(point["thresholds"])
            taken.append(run_all(calls.gfnet))
    return {
        "static": _spread(static),
        "points": [
            {
                **_spread(taken),
                # Within each round, since what else the machine does changes from round to round.
                "speedup": _spread([s / t for s, t in zip(static, taken, strict=True)]),
            }
            for taken in times
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }
