"""Logs of trainings: TensorBoard's files in the run, and other trackers on request."""

import contextlib
import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.files import is_file, write_text
from gfnet_env.runs import CSV_LOG

_COLUMNS = ["step", "name", "value"]
_PROJECT = "gfnet-env"
TRACKERS = ("csv", "mlflow", "wandb")


class RunLog(SummaryWriter):
    """TensorBoard's log of a run, which other trackers get too.

    Args:
        run: Folder of the run.
        trackers: Names of the others, see ``check_trackers``.
        steps: Number of steps that the run has taken. What a killed process logged later is
            dropped from TensorBoard and from the CSV file. In wandb and MLflow, a resumed run is
            another run.
        settings: Of the run, for the trackers.
    """

    def __init__(
        self,
        run: Path,
        trackers: Sequence[str] = (),
        *,
        steps: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if trackers:
            # Those of accelerate ask it which process this is.
            PartialState()
        # Before anything is written, since who is not logged in is told only now.
        self._trackers: list[Any] = []
        with contextlib.ExitStack() as started:
            for name in trackers:
                tracker = _build(name, run, steps)
                tracker.start()
                started.callback(tracker.finish)
                tracker.store_init_configuration(dict(settings or {}))
                self._trackers.append(tracker)
            super().__init__(run / "tensorboard", purge_step=steps + 1)
            started.pop_all()

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:  # type: ignore[override]
        """Log a number after a number of steps."""
        super().add_scalar(tag, scalar_value, global_step)
        for tracker in self._trackers:
            tracker.log({tag: float(scalar_value)}, step=global_step)

    def add_picture(self, tag: str, picture: npt.NDArray[Any], step: int) -> None:
        """Log a picture, (H, W, 3) uint8; trackers that take none are left out."""
        self.add_image(tag, picture, step, dataformats="HWC")
        for tracker in self._trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({tag: [picture]}, step=step)

    def close(self) -> None:
        """Finish all logs."""
        super().close()
        while self._trackers:
            self._trackers.pop().finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raise ``ValueError`` if there is no such tracker, ``ImportError`` if it is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"unknown tracker {name!r}; known: {', '.join(TRACKERS)}")
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise ImportError(f"{name} is not installed: pip install {name}")


def _build(name: str, run: Path, steps: int) -> Any:
    """A tracker of accelerate, or ours."""
    if name == "csv":
        return CSVTracker(run / CSV_LOG, steps)
    options = {
        "wandb": {"name": run.name, "dir": str(run)},
        "mlflow": {"run_name": run.name},
    }
    return LOGGER_TYPE_TO_CLASS[name](_PROJECT, **options[name])


class CSVTracker:
    """A file with one line for each number: step, name, value. It works as accelerate's trackers.

    Args:
        path: The file; numbers of a resumed run are added to it.
        steps: Lines of later steps are dropped.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path, self._steps = path, steps

    def start(self) -> None:
        """Open the file."""
        rows: list[list[str]] = []
        if self._steps and is_file(self._path):
            with self._path.open(newline="") as file:
                # A killed process may have left half a line.
                rows = [each for each in csv.reader(file) if len(each) == len(_COLUMNS)]
        kept = [each for each in rows if each[0].isdecimal() and int(each[0]) <= self._steps]
        # As a whole, so that a process that is killed now loses nothing.
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *kept])
        write_text(self._path, text.getvalue())
        self._file = self._path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing: config.json holds the settings."""

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """Write numbers."""
        self._writer.writerows([step, name, value] for name, value in values.items())
        self._file.flush()

    def finish(self) -> None:
        """Close the file."""
        self._file.close()
