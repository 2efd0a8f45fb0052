"""Peak memory of running a network, at several image resolutions."""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from gfnet_env.benchmarks.processes import MIB, begin_peak, in_a_process, peak_bytes
from gfnet_env.benchmarks.results import Memory, MemoryRow, ProcessMemory
from gfnet_env.console import PlainConsole, PlainTable, track
from gfnet_env.files import check_files, write_json
from gfnet_env.images import ArrayImages
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.inference.storage import load_model
from gfnet_env.models import StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy
from gfnet_env.runs import provenance
from gfnet_env.settings import AtLeast, Settings


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(Settings):
    """What to measure."""

    run: Path
    """Folder of a network, with or without a policy; without one it looks at the centre."""
    resolutions: tuple[Annotated[int, AtLeast(1)], ...] = (224, 448, 896, 1792, 3584)
    """Sides of the square images, in pixels."""
    static: bool = True
    """Whether to also measure the same encoder on whole images."""
    threads: Annotated[int, AtLeast(1)] = 2
    """Threads of torch."""
    out: Path | None = None
    """File for the results, JSON; by default none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.resolutions:
            raise ValueError("resolutions must name at least one, not ()")


def measure_memory(config: MemoryConfig) -> Memory:
    """Run each resolution in a process of its own and print a table.

    The peak is that of resident memory while all steps run, less the decoded image (random noise).
    If a process fails, for example for lack of memory, its message is kept.

    Raises:
        OSError: ``config.out`` cannot be written.
    """
    check_files(config.out)
    load_model(config.run)
    rows = tuple(
        MemoryRow(
            resolution,
            image=3 * resolution**2 / MIB,
            gfnet=_in_a_process(config, "gfnet", resolution),
            static=_in_a_process(config, "static", resolution) if config.static else None,
        )
        for resolution in track(config.resolutions, "memory")
    )
    peaks = [row.gfnet.peak for row in rows if row.gfnet.peak is not None]
    variation = max(peaks) / min(peaks) - 1 if peaks else None
    results = Memory(rows=rows, variation=variation, provenance=provenance())
    if config.out is not None:
        write_json(config.out, results.to_json())
    _print(results, PlainConsole())
    return results


def _print(results: Memory, console: Console) -> None:
    peaks = ("GFNet, peak", "above idle", "static, peak", "above idle")
    table = PlainTable("image", "decoded", *peaks)
    for row in results.rows:
        cells = [f"{row.image:.1f} MiB"]
        for taken in filter(None, (row.gfnet, row.static)):
            if taken.peak is None or taken.idle is None:
                cells += ["failed", taken.error or ""]
            else:
                cells += [f"{taken.peak:.0f} MiB", f"{taken.peak - taken.idle:.1f} MiB"]
        table.add_row(f"{row.resolution}×{row.resolution}", *cells)
    console.print(table)
    if results.variation is not None:
        console.print(f"GFNet's peak varies by {results.variation:.1%}, the image not counted")


def _in_a_process(config: MemoryConfig, name: str, resolution: int) -> ProcessMemory:
    """The memory that a fresh process took."""
    try:
        taken = in_a_process(__name__, name, config.run, resolution, config.threads)
    except RuntimeError as error:
        return ProcessMemory(error=str(error))
    return ProcessMemory(*taken)


def _classifier(name: str, folder: str, resolution: int) -> Callable[[Tensor], object]:
    """All steps of a network, or a static network with the same encoder."""
    model, policy = load_model(folder)
    if name == "gfnet":
        return EarlyExitGFNet(model, policy or CenterPolicy())
    encoder, classes = model.config.encoder, model.num_classes
    config = StaticConfig(encoder=encoder, resolution=resolution, num_classes=classes)
    static = StaticNetwork(config).eval()
    return lambda pixels: static(ArrayImages(pixels).overview(0, static.view))


def _work(name: str, folder: str, resolution: int, threads: int) -> None:
    """The work of each process, which prints the two figures."""
    torch.set_num_threads(threads)
    classify = _classifier(name, folder, resolution)
    gc.collect()
    idle = begin_peak()
    picture = np.random.default_rng(0).integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    with torch.no_grad():
        classify(torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0))
    print(json.dumps([idle / MIB, (peak_bytes() - picture.nbytes) / MIB]))


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
