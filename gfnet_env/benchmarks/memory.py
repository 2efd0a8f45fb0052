"""Peak memory of a network's own work, at several image resolutions."""

import gc
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from gfnet_env.benchmarks.report import print_memory
from gfnet_env.files import write_json
from gfnet_env.inference import NEVER, EarlyExitGFNet
from gfnet_env.perception import GlanceFocusNetwork, StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy
from gfnet_env.runs import provenance

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What to measure."""

    run: Path
    """Folder of a network, with a policy or without; without one it looks at the centre."""
    resolutions: tuple[int, ...] = (224, 448, 896, 1792, 3584)
    """Sides of the square images, in pixels."""
    static: bool = True
    """Whether to measure the same encoder on whole images beside it."""
    threads: int = 2
    """Threads of torch."""
    out: Path | None = None
    """File for the results, JSON; by default none."""

    def __post_init__(self) -> None:
        if not self.resolutions or min(self.resolutions) < 1:
            raise ValueError(f"resolutions must be at least 1 pixel, not {self.resolutions}")


def measure_memory(config: MemoryConfig) -> dict[str, Any]:
    """Run each resolution in a process of its own and print a table.

    Peak resident memory less the decoded image: one image of noise, kept as a decoder leaves it,
    and every step of the network.

    A process that fails, for want of memory for one, leaves its message in its place.
    """
    _load(config.run)
    rows = []
    for resolution in track(config.resolutions, description="memory"):
        row: dict[str, Any] = {"resolution": resolution, "image": 3 * resolution**2 / _MIB}
        for name in ("gfnet", "static") if config.static else ("gfnet",):
            row[name] = _in_a_process(config, name, resolution)
        rows.append(row)
    peaks = [row["gfnet"]["peak"] for row in rows if "peak" in row["gfnet"]]
    variation = max(peaks) / min(peaks) - 1 if peaks else None
    results = {"rows": rows, "variation": variation, "provenance": provenance()}
    if config.out is not None:
        write_json(config.out, results)
    print_memory(results, Console())
    return results


def _in_a_process(config: MemoryConfig, name: str, resolution: int) -> dict[str, Any]:
    """Mebibytes that a fresh process took: before it saw the image, and at the peak after."""
    arguments = [name, str(config.run), str(resolution), str(config.threads)]
    # -P: the library that runs here, not what the folder of the moment may hold.
    command = [sys.executable, "-P", "-m", "gfnet_env.benchmarks.memory", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode:
        message = process.stderr.strip().rpartition("\n")[2]
        return {"error": message or f"ended by signal {-process.returncode}"}
    idle, peak = map(float, process.stdout.split())
    return {"idle": idle, "peak": peak}


def _load(folder: Path) -> EarlyExitGFNet:
    if (folder / "gfnet.json").is_file():
        return EarlyExitGFNet.load(folder)
    return EarlyExitGFNet(GlanceFocusNetwork.load(folder), CenterPolicy())


def _work(name: str, folder: Path, resolution: int, threads: int) -> None:
    """What a process of its own does; it prints the two figures."""
    torch.set_num_threads(threads)
    gfnet = _load(folder)
    gfnet.set_thresholds([NEVER] * len(gfnet.thresholds))
    network: torch.nn.Module = gfnet
    if name == "static":
        encoder, classes = gfnet.network.config.encoder, gfnet.network.num_classes
        network = StaticNetwork(
            StaticConfig(encoder=encoder, resolution=resolution, num_classes=classes)
        ).eval()
        del gfnet
        gc.collect()
    idle = _begin_peak()
    picture = np.random.default_rng(0).integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    with torch.no_grad():
        network(torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0))
    print(idle / _MIB, (_peak_bytes() - picture.nbytes) / _MIB)


def _begin_peak() -> int:
    """Forget the peak of loading, which hides that of working; resident memory now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        sys.exit(f"peak memory can only be measured on Linux ({error})")
    return _peak_bytes()


def _peak_bytes() -> int:
    """Most resident memory this process has had since ``_begin_peak``."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, flags=re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
