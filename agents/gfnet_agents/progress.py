"""A progress bar for learning, in the style of the other stages."""

from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Shows environment steps, the mean return of recent episodes and the time that remains.

    Use as a context manager.

    Args:
        timesteps: Environment steps that will be taken.
    """

    def __init__(self, timesteps: int) -> None:
        self._timesteps = timesteps
        self._progress = Progress(
            TextColumn("stage 2"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, return {task.fields[value]:.3f}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("", total=timesteps, value=0.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        # However learning ends, the terminal is given back.
        self._progress.stop()

    def show(self, steps: int, value: float) -> None:
        """Show how many steps were taken, and the mean return of recent episodes."""
        self._progress.update(self._task, completed=min(steps, self._timesteps), value=value)
