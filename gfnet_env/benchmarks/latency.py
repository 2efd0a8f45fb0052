"""Wall time per image at several budgets, against the full-resolution network in the same run."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from gfnet_env.benchmarks.report import millions
from gfnet_env.benchmarks.results import (
    Evaluation,
    Latency,
    PointTime,
    Spread,
    ThresholdPoint,
    TimedPoint,
    Timing,
)
from gfnet_env.benchmarks.rounds import Contender, speedup, time_rounds
from gfnet_env.console import PlainConsole, PlainTable
from gfnet_env.exits.thresholds import NEVER
from gfnet_env.export import export_int8, export_onnx, export_static
from gfnet_env.files import replacing, weights_digests, write_json
from gfnet_env.images import ArrayImages, DatasetImages, ImageSet
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.inference.budgets import spread
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models import Model, StaticNetwork, load_static_networks
from gfnet_env.policies import ScanPolicy
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, AtMost, Flat, Seed, Settings

Engine = Literal["onnx", "onnx-int8", "torch"]
Positive = Annotated[int, AtLeast(1)]


@dataclass(frozen=True, kw_only=True)
class LatencyConfig(Settings):
    """What to time."""

    run: Path
    """Run folder of an assembled network, with the results of evaluate.py in RUN/evaluation."""
    baseline: Path
    """Run folder of static baselines; the one with the highest resolution is timed."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    out: Path | None = None
    """Folder for the results; by default RUN/latency."""
    count: Positive = 192
    """Test images to time, drawn at random."""
    engines: tuple[Engine, ...] = get_args(Engine)
    """Engines that run the networks: ONNX Runtime with floats or 8-bit integers, eager torch."""
    batch_sizes: tuple[Positive, ...] = (1, 64)
    """Images per batch."""
    budgets: Positive = 5
    """Budgets to time, spread evenly over the evaluated ones, in addition to those of equal
    accuracy."""
    repeats: Positive = 7
    """Number of rounds; each round times everything once, in turn."""
    threads: Annotated[tuple[int, ...], AtLeast(1), AtMost(256)] = (1, 2)
    """Numbers of threads of torch and onnxruntime; everything is timed with each of them."""
    seed: Seed = 0
    """Seed of the images drawn."""
    device: str = "auto"
    """Where torch runs: auto, cpu, cuda or mps."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """Names of onnxruntime's execution providers, in order."""
    overwrite: bool = False
    """Whether existing results may be replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("engines", "batch_sizes", "threads", "providers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, not ()")


def measure_latency(config: LatencyConfig, images: ImageSet | None = None) -> Latency:
    """Time the network at several budgets and the static one, and write results.json.

    Each timing begins with uint8 pixels at full size in memory and ends with classes, so it
    includes resizing but not decoding.

    Args:
        config: What to time.
        images: The test split, in place of ``config.images``.

    Raises:
        FileNotFoundError: A folder is missing, or the network has not been evaluated.
        ImportError: The packages that write and run ONNX are missing.
        ValueError: The network was not evaluated with these baselines, or does not fit the images.
    """
    gfnet = EarlyExitGFNet.load(config.run)
    out = config.out or config.run / "latency"
    check_free(out, overwrite=config.overwrite)
    static = load_static_networks(config.baseline)[-1]
    evaluated = _evaluated(config, static)
    pictures = _pictures(config, gfnet.model, images)
    engines = _engines(config, gfnet, static, pictures)
    with replacing(out) as new:
        save_config(new, config)
        points = tuple(_timed_points(gfnet, pictures, evaluated, config.budgets))
        assert evaluated.static is not None
        results = Latency(
            images=len(pictures),
            repeats=config.repeats,
            resolution=static.config.resolution,
            static_accuracy=evaluated.static[-1].accuracy,
            points=points,
            timings=tuple(
                _time(engine, pictures, batch_size, points, config.repeats)
                for engine in engines
                for batch_size in config.batch_sizes
            ),
        )
        write_json(new / "results.json", results.to_json())
    _print(results, PlainConsole())
    return results


def _pictures(config: LatencyConfig, model: Model, images: ImageSet | None) -> list[Tensor]:
    """The pictures to time, (3, H, W) uint8 each."""
    images = config.images.open(model, "test") if images is None else images
    check_fit(model, images)
    order = np.random.default_rng(config.seed).permutation(len(images))[: config.count]
    return [images.picture(index) for index in order.tolist()]


def _evaluated(config: LatencyConfig, static: StaticNetwork) -> Evaluation:
    """The results of ``evaluate``, with this static network."""
    folder = config.run / "evaluation"
    evaluated = Evaluation.read(folder / "results.json")
    full = config.baseline / str(static.config.resolution)
    compared = evaluated.static[-1].weights if evaluated.static else None
    for what, weights, wanted in (
        ("network", evaluated.weights, weights_digests(config.run)),
        ("best baseline", compared, weights_digests(full)),
    ):
        if weights != wanted:
            raise ValueError(
                f"{folder} does not belong to this {what}: run evaluate.py --run {config.run} "
                f"--baseline {config.baseline} --overwrite"
            )
    if not evaluated.budgeted.get("geometric"):
        raise ValueError(f"{folder} has no budgets; run evaluate.py again, with --overwrite")
    return evaluated


def _timed_points(
    gfnet: EarlyExitGFNet, pictures: Sequence[Tensor], evaluated: Evaluation, budgets: int
) -> Iterator[TimedPoint]:
    """Evaluated budgets over the range, and the points of equal accuracy."""
    points: list[tuple[str, ThresholdPoint | None]] = [
        ("budget", point) for point in spread(evaluated.budgeted["geometric"], budgets)
    ]
    for method, found in (evaluated.comparison or {}).items():
        points.append((f"{method}, at accuracy", found.at_accuracy))
        points.append((f"{method}, within interval", found.within_interval))
    batch = _in_memory(pictures)
    for name, point in points:
        if point is None:
            continue
        gfnet.set_thresholds(point.thresholds)
        yield TimedPoint(
            name=name,
            multiply_adds=point.multiply_adds,
            accuracy=point.accuracy,
            thresholds=point.thresholds,
            multiply_adds_of_timed=float(gfnet(batch).multiply_adds.cpu().double().mean()),
        )


@dataclass(frozen=True)
class _Engine:
    """How an engine makes a batch of pictures and classifies it; it works on ``device``."""

    name: Engine
    threads: int
    device: torch.device
    prepare: Callable[[Sequence[Tensor]], Any]
    gfnet: Callable[[Any], object]
    static: Callable[[Any], object]
    set_thresholds: Callable[[Sequence[float]], None]
    scan: Callable[[Any], object] | None = None


def _engines(
    config: LatencyConfig,
    gfnet: EarlyExitGFNet,
    static: StaticNetwork,
    pictures: Sequence[Tensor],
) -> list[_Engine]:
    """All engines with all numbers of threads; the networks are on their device afterwards."""
    engines = []
    exported: list[Engine] = [name for name in config.engines if name != "torch"]
    if exported:
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            if "onnx-int8" in exported:
                # How fast it is does not depend on what it is calibrated with; all take all looks.
                gfnet.set_thresholds([NEVER] * gfnet.model.focus_steps + [0.0])
                shown = DatasetImages([(picture, 0) for picture in pictures])
                export_int8(gfnet, folder / "onnx-int8", shown, shown, folder / "onnx")
            else:
                export_onnx(gfnet, folder / "onnx")
            export_static(static, folder / "static.onnx")
            engines += [
                _onnx(name, folder, static, threads, config.providers)
                for name in exported
                for threads in config.threads
            ]
    device = resolve_device(config.device)
    gfnet.to(device)
    static.to(device)
    if "torch" in config.engines:
        engines += [_torch(gfnet, static, threads) for threads in config.threads]
    return engines


def _torch(gfnet: EarlyExitGFNet, static: StaticNetwork, threads: int) -> _Engine:
    device = gfnet.model.device

    @torch.no_grad()
    def run_static(batch: Tensor | ImageSet) -> Tensor:
        images = ArrayImages(batch.to(device)) if isinstance(batch, Tensor) else batch
        views = images.overview(np.arange(len(images)), static.view)
        return static(views.to(device)).argmax(dim=1).cpu()

    def run_gfnet(batch: Tensor | ImageSet) -> Tensor:
        return gfnet(batch).classes.cpu()

    def run_scan(batch: Tensor | ImageSet) -> Tensor:
        return scanning(batch).classes.cpu()

    # Looks at all windows, so it needs a network that knows what a window is worth.
    scans = getattr(gfnet.model, "where", None) is not None
    scanning = EarlyExitGFNet(gfnet.model, ScanPolicy())
    return _Engine(
        "torch",
        threads,
        device,
        _in_memory,
        run_gfnet,
        run_static,
        gfnet.set_thresholds,
        run_scan if scans else None,
    )


def _in_memory(pictures: Sequence[Tensor]) -> Tensor | ImageSet:
    """Pictures of one size as one tensor, in a decoder's memory layout; others as an image set."""
    if len({picture.shape for picture in pictures}) == 1:
        return torch.stack(list(pictures)).contiguous(memory_format=torch.channels_last)
    return DatasetImages([(picture, 0) for picture in pictures])


def _onnx(
    name: Engine, folder: Path, static: StaticNetwork, threads: int, providers: Sequence[str]
) -> _Engine:
    # Only here: ``export_onnx`` says what to install where onnxruntime is missing.
    from gfnet_env.export.runner import Runner, open_session, overview

    runner = Runner(folder / name, threads=threads, providers=providers)
    session = open_session(folder / "static.onnx", threads, providers)
    view = static.view

    def run_static(batch: Sequence[Any]) -> Any:
        pixels = overview(batch, view.size, view.interpolation, view.aspect)
        return session.run(None, {"pixels": pixels})[0].argmax(axis=1)

    def prepare(pictures: Sequence[Tensor]) -> list[Any]:
        return [np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]

    def set_thresholds(thresholds: Sequence[float]) -> None:
        runner.thresholds = tuple(thresholds)

    cpu = torch.device("cpu")
    return _Engine(name, threads, cpu, prepare, runner.classify, run_static, set_thresholds)


def _time(
    engine: _Engine,
    pictures: Sequence[Tensor],
    batch_size: int,
    points: Sequence[TimedPoint],
    repeats: int,
) -> Timing:
    """Milliseconds per image of the static network and of all points, in interleaved rounds."""
    batches = [
        engine.prepare(pictures[start : start + batch_size])
        for start in range(0, len(pictures), batch_size)
    ]

    def run_all(call: Callable[[Any], object]) -> None:
        for batch in batches:
            call(batch)

    contenders = {"static": Contender(partial(run_all, engine.static))}
    if engine.scan is not None:
        contenders["scan"] = Contender(partial(run_all, engine.scan))
    for number, point in enumerate(points):
        prepare = partial(engine.set_thresholds, point.thresholds)
        contenders[f"point {number}"] = Contender(partial(run_all, engine.gfnet), prepare)
    with _torch_threads(engine.threads):
        times = time_rounds(contenders, repeats, engine.device, f"batches of {batch_size}")
    milliseconds = {
        name: [1e3 * each / len(pictures) for each in taken] for name, taken in times.items()
    }
    static, scan = milliseconds.pop("static"), milliseconds.pop("scan", None)
    return Timing(
        engine=engine.name,
        threads=engine.threads,
        batch_size=batch_size,
        static=Spread.of(static),
        points=tuple(
            PointTime(**vars(Spread.of(taken)), speedup=speedup(taken, static))
            for taken in milliseconds.values()
        ),
        scan=None if scan is None else Spread.of(scan),
    )


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    # Timing must not change what is computed afterwards.
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print(results: Latency, console: Console) -> None:
    """Print milliseconds per image and how many times faster than the static network that is."""
    full = f"{results.resolution}×{results.resolution}"
    for timing in results.timings:
        threads = f"{timing.threads} thread{'s' * (timing.threads > 1)}"
        title = f"{timing.engine}, batches of {timing.batch_size}, {threads}"
        columns = ("network", "accuracy", "ms per image", f"× faster than {full}")
        table = PlainTable(*columns, title=title)
        table.add_row(f"static, {full}", f"{results.static_accuracy:.1%}", _shown(timing.static))
        for point, timed in zip(results.points, timing.points, strict=True):
            name = f"{point.name}, {millions(point.multiply_adds)}"
            table.add_row(name, f"{point.accuracy:.1%}", _shown(timed), _shown(timed.speedup))
        if timing.scan is not None:
            table.add_row("all windows, scanned", "", _shown(timing.scan))
        console.print(table)
    console.print(_summary(results))


def _summary(results: Latency) -> PlainTable:
    """Milliseconds per picture of everything, by batch and threads, at the last point."""
    name = results.points[-1].name
    settings = dict.fromkeys((each.batch_size, each.threads) for each in results.timings)
    rows: dict[str, dict[tuple[int, int], Spread]] = {}
    for timing in results.timings:
        key = timing.batch_size, timing.threads
        rows.setdefault(f"GFNet, {timing.engine}", {})[key] = timing.points[-1]
        # An exported static network has floats.
        if timing.engine != "onnx-int8":
            rows.setdefault(f"static, {timing.engine}", {})[key] = timing.static
        if timing.scan is not None:
            rows.setdefault(f"scan, {timing.engine}", {})[key] = timing.scan
    columns = [f"batch {batch}, threads {threads}" for batch, threads in settings]
    table = PlainTable("ms per picture", *columns, title=f"GFNet at {name}")
    for row, spreads in rows.items():
        table.add_row(row, *(f"{spreads[key].median:.2f}" for key in settings))
    return table


def _shown(values: Spread) -> str:
    return f"{values.median:.2f} ({values.min:.2f} to {values.max:.2f})"
