"""Run folders, where a stage writes its results and records how to repeat it."""

import contextlib
import dataclasses
import functools
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Annotated, Any

import torch

from gfnet_env.checkpoints import Checkpoints
from gfnet_env.files import check_writable, finish_saving, is_file, read_json, write_json, writing
from gfnet_env.settings import AtLeast, Settings, to_json

if sys.platform != "win32":
    import fcntl

_PACKAGES = (
    *("gfnet-env", "torch", "torchvision", "timm", "gymnasium", "stable-baselines3", "numpy"),
    *("accelerate", "scipy", "pillow", "onnxruntime", "sb3-contrib"),
)
# Seconds to the first checkpoint.
_FIRST_CHECKPOINT = 60.0
CSV_LOG = "log.csv"
_CONFIG, _RESULTS, _LOCK = "config.json", "results.json", ".lock"
# Files of a trained GFNet, and of the agent that learned its policy.
_GFNET_FILES = (
    *("network.json", "network.safetensors", "policy.json", "policy.safetensors"),
    *("gfnet.json", "agent.zip", "agent.pt"),
)


@dataclass(frozen=True, kw_only=True)
class RunControl(Settings):
    """Where a run computes, and what to do with an earlier run in its folder."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    checkpoint_minutes: Annotated[float, AtLeast(0)] = 10.0
    """Minutes between checkpoints, of which the first is written after one; stages 1 and 3 also
    write one after every epoch. Ctrl-C writes one before it ends a training."""
    resume: bool = False
    """Whether to continue from the last checkpoint of the run, if there is one."""
    overwrite: bool = False
    """Whether an existing run may be overwritten."""
    log: tuple[str, ...] = ()
    """Where to log besides TensorBoard: csv (log.csv in the run), mlflow or wandb."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log:
            from gfnet_env.logs import check_trackers

            check_trackers(self.log)


# Settings that may change when a run is resumed: its folder, and all of its control.
_MAY_CHANGE = frozenset({"run", *(each.name for each in dataclasses.fields(RunControl))})


class Run:
    """A run folder, which can be begun, resumed and completed.

    ``config.json`` holds the settings and the provenance of the run, and ``results.json`` marks it
    as complete; ``checkpoints`` and ``tensorboard`` are folders. Use it as a context manager::

        with Run.open(config.run, config, config.control) as run:
            if not run.complete:
                state = run.checkpoints.load(device)  # None unless it goes on
                ...
                run.finish(results)

    Args:
        folder: An existing run.

    Attributes:
        folder: The folder of the run.
        checkpoints: The checkpoints of this run.
        interrupted: Whether this process was asked to end, see ``interruptible``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.interrupted = False
        self._seconds = self._due_at = math.inf
        self._lock: IO[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folder: Path,
        config: Settings,
        control: RunControl,
        *,
        may_change: Collection[str] = (),
        inputs: Iterable[Path | None] = (),
        parts: Iterable[Path] = (),
        files: Iterable[str] = (),
    ) -> Iterator["Run"]:
        """Begin or resume a run. Everything is checked before anything is written.

        The folder is locked until the context or the process ends. If an error ends the context
        before anything else was written, the folder is removed.

        Args:
            folder: Made if missing, with its parents.
            config: The content of ``config.json``.
            control: Whether to resume, or to overwrite an earlier run.
            may_change: Settings that may differ when a run is resumed, besides those of
                ``RunControl``.
            inputs: Runs that this run starts from. If it overwrites one of them, their network
                stays.
            parts: Folders of the runs that this run consists of; a new run removes them.
            files: Further files of results, which a new run removes too.

        Raises:
            FileExistsError: The folder is not empty, and neither resuming nor overwriting was
                requested; or another process works in it.
            ValueError: The run to resume was begun with other values.
        """
        run = cls(folder)
        run._seconds = 60 * control.checkpoint_minutes
        run._due_at = time.monotonic() + min(_FIRST_CHECKPOINT, run._seconds)
        run._check(config, control, may_change)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / _LOCK).open("a")
        with lock:
            _claim(lock, folder)
            # So that others know since when, see last_claimed.
            os.utime(folder / _LOCK)
            run._lock = lock
            # Again: another process may have written in between.
            if not run._check(config, control, may_change):
                run._clear(inputs, parts, files)
                save_config(folder, config)
            try:
                with _terminable():
                    yield run
            except BaseException as error:
                run._remove_if_unused()
                if isinstance(error, KeyboardInterrupt) and not error.args:
                    raise KeyboardInterrupt(
                        f"interrupted; the same command with --resume goes on ({folder})"
                    ) from error
                raise
            finally:
                run._lock = None

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Put off the first SIGINT or SIGTERM until the next checkpoint, which is due then.

        Threads other than the main one cannot do that; there, signals act as always.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_number: int, _frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether it is time for a checkpoint, or the last chance for one."""
        return self.interrupted or time.monotonic() >= self._due_at

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint.

        Raises:
            FileNotFoundError: The folder was removed.
            KeyboardInterrupt: The process was asked to end.
        """
        self._check_there()
        self.checkpoints.save(step, state)
        self._due_at = time.monotonic() + self._seconds
        if self.interrupted:
            raise KeyboardInterrupt(
                f"interrupted; the same command with --resume goes on from step {step} "
                f"({self.folder})"
            )

    @property
    def complete(self) -> bool:
        """Whether the run is complete."""
        return is_file(self.folder / _RESULTS)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was begun with, see ``Settings.to_json``.

        Raises:
            FileNotFoundError: The folder holds no run.
            ValueError: Its configuration is damaged.
        """
        config = read_json(self.folder / _CONFIG).get("config")
        if not isinstance(config, dict):
            raise ValueError(f"{self.folder / _CONFIG} has no 'config'; restore it from a copy")
        return config

    @property
    def results(self) -> dict[str, Any]:
        """The results of a complete run.

        Raises:
            FileNotFoundError: The run is missing or incomplete.
        """
        return read_json(self.folder / _RESULTS)

    def finish(self, results: object) -> None:
        """Write ``results.json``, which marks the run as complete, and remove its checkpoints.

        Args:
            results: A dataclass, see ``settings.to_json``.

        Raises:
            FileNotFoundError: The folder was removed.
        """
        self._check_there()
        write_json(self.folder / _RESULTS, to_json(results))
        self.checkpoints.clear()

    def _check_there(self) -> None:
        """Raise ``FileNotFoundError`` if the folder is gone, or is another one by now."""
        if self._lock is not None and not _is_in(self._lock, self.folder):
            raise FileNotFoundError(
                f"{self.folder} was removed or replaced while this run was at work in it; begin "
                "anew, in another folder if a run is at work there"
            )

    def _check(self, config: Settings, control: RunControl, may_change: Collection[str]) -> bool:
        """Whether to resume the run; raises like ``open``."""
        check_run(self.folder, control)
        resumes = control.resume and is_file(self.folder / _CONFIG)
        if resumes:
            _check_config(self.folder, self.config, config, {*_MAY_CHANGE, *may_change})
        return resumes

    def _clear(
        self, inputs: Iterable[Path | None], parts: Iterable[Path], files: Iterable[str]
    ) -> None:
        """Remove all files of an earlier run that could be mistaken for this run's."""
        finish_saving(self.folder)
        goes_on = self.folder.resolve() in {each.resolve() for each in inputs if each is not None}
        for name in (_RESULTS, CSV_LOG, *files, *(() if goes_on else _GFNET_FILES)):
            (self.folder / name).unlink(missing_ok=True)
        self.checkpoints.clear()
        for part in parts:
            if part.is_dir():
                shutil.rmtree(part)

    def _remove_if_unused(self) -> None:
        """Remove the folder if it holds nothing but the configuration."""
        # The first error says more than one from here.
        with contextlib.suppress(OSError):
            self._check_there()
            if {entry.name for entry in self.folder.iterdir()} <= {_CONFIG, _LOCK}:
                shutil.rmtree(self.folder)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM interrupt the main thread as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def dated_folder(kind: str) -> Path:
    """``runs/KIND-DATE-TIME``, for a run that was given no folder."""
    # With microseconds: runs that begin together must not share a folder.
    return Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S-%f}"


def check_run(folder: Path, control: RunControl) -> None:
    """Check that a run can begin in a folder, which need not exist, or be resumed there.

    Raises:
        FileExistsError: See ``Run.open``.
        OSError: The folder cannot be written.
        ValueError: Its name is no text.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        # Tensorboard cannot write there.
        raise ValueError(
            f"the name of {folder} has bytes that are no text; give another folder"
        ) from error
    holds_run = is_file(folder / _CONFIG)
    if control.resume and holds_run:
        check_writable(folder)
        return
    if control.resume and not control.overwrite and not _is_free(folder):
        raise FileExistsError(f"{folder} holds no run to resume; give another folder")
    if holds_run and not control.overwrite:
        raise FileExistsError(
            f"{folder} already exists; give another folder, --resume to go on with the run in it, "
            "or --overwrite to replace what it holds"
        )
    check_free(folder, overwrite=control.overwrite)


def is_at_work(folder: Path) -> bool:
    """Whether a process works on a run in a folder; on Windows, nobody knows."""
    try:
        with (folder / _LOCK).open("r") as lock:
            _claim(lock, folder)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    return False


def last_claimed(folder: Path) -> float:
    """The time when a process last began to work on the run in a folder; 0 if none did."""
    lock = folder / _LOCK
    return lock.stat().st_mtime if lock.is_file() else 0.0


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Check that a folder may be written into; it need not exist.

    Raises:
        FileExistsError: The path is a file; or the folder is not empty, and ``overwrite`` is off.
        OSError: The folder cannot be written.
    """
    if not (_is_free(folder) or (overwrite and folder.is_dir())):
        raise FileExistsError(
            f"{folder} already exists; give another folder, or --overwrite to replace what it holds"
        )
    check_writable(folder)


def _is_free(folder: Path) -> bool:
    """Whether a folder is missing or empty; a kill during the first write leaves a hidden file."""
    if not folder.is_dir():
        return not folder.exists()
    return all(entry.name.startswith(".") for entry in folder.iterdir())


def save_config(folder: Path, config: Settings) -> None:
    """Write ``config.json``: the configuration of a run, and its provenance."""
    write_json(folder / _CONFIG, {"config": config.to_json(), "provenance": provenance()})


def _claim(lock: IO[str], folder: Path) -> None:
    """Lock a file until it is closed; on Windows, do nothing."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have removed the file in between, and a third one made a new one.
        is_ours = _is_in(lock, folder)
    except BlockingIOError:
        is_ours = False
    if not is_ours:
        raise FileExistsError(
            f"another process is at work in {folder}; wait for it, or give another folder"
        )


def _is_in(lock: IO[str], folder: Path) -> bool:
    """Whether an open file is the lock of a folder."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _check_config(
    folder: Path, saved: Mapping[str, Any], config: Settings, may_change: Collection[str]
) -> None:
    """Raise ``ValueError`` unless a run was begun with the same values."""
    begun, now = _flat(saved), _flat(config.to_json())
    paths = {name for name, value in config.items() if isinstance(value, Path)}
    other = sorted(name for name in begun.keys() - now.keys() if begun[name] is not None)
    if other:
        raise ValueError(
            f"{folder} was begun by a version of this library that had the setting {other[0]!r}; "
            "resume it with that version, or give another folder"
        )
    for name, value in now.items():
        # A setting that did not exist in the run's version counts as unchanged.
        before = begun.get(name, value)
        moved = name in paths and _is_beside(now["run"], value, begun.get("run"), before)
        if name not in may_change and value != before and not moved:
            raise ValueError(
                f"{folder} was begun with {name}={before!r}, not {value!r}; resume it with "
                "the same value, or give another folder"
            )


def _is_beside(run: str | None, folder: str, begun: str | None, before: str | None) -> bool:
    """Whether a folder kept its place relative to its run, if both were moved or respelled."""
    if run is None or begun is None or before is None:
        return False
    return os.path.relpath(folder, run) == os.path.relpath(before, begun)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def provenance(*, command: bool = True) -> dict[str, Any]:
    """The command, the git commit of this library's checkout, versions and the machine.

    Args:
        command: Whether to include the command, which may name folders of this machine.
    """
    given = {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])} if command else {}
    return {
        **given,
        "commit": git_commit(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def git_commit() -> str | None:
    """Commit of this library's checkout (``+`` if files have changed); None outside a checkout."""
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
        cpu_or_mps = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else cpu_or_mps
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        # Of a name that it does not know, torch lists twenty.
        reason = "" if "device type" in str(error) else f" ({error})"
        raise ValueError(f"no device {name!r} here{reason}; give auto, cpu, cuda or mps") from error
    return device
