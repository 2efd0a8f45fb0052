"""Run folders: where a stage writes, and what it notes down so that it can be repeated."""

import dataclasses
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gfnet_env.files import read_json, write_json

_PACKAGES = (
    *("gfnet-env", "torch", "torchvision", "timm", "gymnasium", "stable-baselines3", "numpy"),
    *("accelerate", "scipy", "pillow", "onnxruntime", "sb3-contrib"),
)
# What a trained GFNet is on disk, and the agent that learned its policy.
_GFNET_FILES = (
    *("network.json", "network.safetensors", "policy.json", "policy.safetensors"),
    *("gfnet.json", "agent.zip"),
)


def create_run(folder: Path, *, overwrite: bool = False) -> Path:
    """Make a run folder.

    Args:
        folder: Where; its parents are made too.
        overwrite: Whether a folder that already holds something may be written into; files of the
            same names are then replaced, others stay.

    Raises:
        FileExistsError: The folder holds something, and overwriting was not asked for.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise FileExistsError(
            f"{folder} already exists; give another folder, or --overwrite to replace what it holds"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stale_files(run: Path, inputs: Iterable[Path | None]) -> tuple[str, ...]:
    """Names of what an earlier run may have left in a folder and a new one would be taken to hold.

    Args:
        run: The folder, which is written over.
        inputs: Folders that the new run goes on with; what is in its own is not stale.
    """
    goes_on = run.resolve() in {folder.resolve() for folder in inputs if folder is not None}
    return () if goes_on else _GFNET_FILES


def resume_run(folder: Path, config: Any, may_change: Collection[str]) -> bool:
    """Check that a run folder was begun with a configuration, so that it can go on.

    Args:
        folder: Of the run.
        config: A dataclass, see ``save_config``.
        may_change: Its fields that may differ.

    Returns:
        Whether anything was begun; False where the folder is missing or empty.

    Raises:
        FileExistsError: The folder holds something that is no run.
        ValueError: The run was begun with other values.
    """
    # A kill while the first file is written leaves a hidden one.
    if not folder.exists() or (
        folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())
    ):
        return False
    if not (folder / "config.json").is_file():
        raise FileExistsError(f"{folder} holds no run to resume; give another folder")
    begun = _flat(read_json(folder / "config.json").get("config", {}))
    now = _flat(to_json(dataclasses.asdict(config)))
    for name, given in now.items():
        # What came with a later version of the library cannot be known.
        before = begun.get(name, given)
        is_folder = isinstance(getattr(config, name, None), Path)
        moved = is_folder and _is_beside(now["run"], given, begun.get("run"), before)
        if name not in may_change and given != before and not moved:
            raise ValueError(
                f"{folder} was begun with {name}={before!r}, not {given!r}; resume it with what "
                "it was begun with, or give another folder"
            )
    return True


def _is_beside(run: str | None, folder: str, begun: str | None, before: str | None) -> bool:
    """Whether a folder is where one was, as seen from its run: both were moved, or spelled anew."""
    if run is None or begun is None or before is None:
        return False
    return os.path.relpath(folder, run) == os.path.relpath(before, begun)


def begin_or_resume(config: Any, may_change: Collection[str], parts: Iterable[Path]) -> None:
    """Make the folder of a run that consists of others, or see that it can go on.

    Args:
        config: A dataclass with ``run``, ``resume`` and ``overwrite``.
        may_change: See ``resume_run``.
        parts: Folders of the runs that it consists of. Where it begins anew they are removed: once
            complete, they would be taken for its own.

    Raises:
        FileExistsError: The folder holds something, and it was not said what to do with it.
        ValueError: A run to be resumed was begun with other values.
    """
    if config.resume and resume_run(config.run, config, may_change):
        return
    create_run(config.run, overwrite=config.overwrite or config.resume)
    for part in parts:
        if part.is_dir():
            shutil.rmtree(part)
    save_config(config.run, config)


def save_config(folder: Path, config: Any) -> None:
    """Write ``config.json``: a stage's configuration (a dataclass) and where it ran."""
    write_json(
        folder / "config.json",
        {"config": to_json(dataclasses.asdict(config)), "provenance": provenance()},
    )


def values_of(config: Any, kind: type[Any]) -> dict[str, Any]:
    """Those fields of a configuration that ``kind``, a dataclass, has too, by name."""
    return {each.name: getattr(config, each.name) for each in dataclasses.fields(kind)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``values`` without mappings in it: what was ``a: {b: 1}`` is ``a.b: 1``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def to_json(value: Any) -> Any:
    """``value`` with paths as strings and tuples as lists."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def provenance(*, command: bool = True) -> dict[str, Any]:
    """The command, the git commit of this library's checkout, versions and the machine.

    Args:
        command: Whether the command, which may name folders of this machine, is part of it.
    """
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    given = {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])} if command else {}
    return {
        **given,
        "commit": git_commit(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
    }


def git_commit() -> str | None:
    """Commit of the checkout this library runs from (``+`` if changed since), None outside one."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def resolve_device(name: str | torch.device) -> torch.device:
    """A device by name; ``auto`` is the first of cuda, mps and cpu that this machine has.

    Raises:
        ValueError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        name = "mps" if name == "cpu" and torch.backends.mps.is_available() else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"no device {name!r} here ({error}); give auto, cpu, cuda or mps"
        ) from error
    return device
