"""A progress bar for learning, in the style of the other stages."""

from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback


class ProgressBar(BaseCallback):
    """Shows environment steps, the mean return of recent episodes and the time that remains.

    A context manager around ``learn``, which it is given to as a callback.

    Args:
        timesteps: Environment steps that will be taken.
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self._timesteps = timesteps
        self._progress = Progress(
            TextColumn("stage 2"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, return {task.fields[value]:.3f}"),
            TimeRemainingColumn(),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        # However learning ends, the terminal is given back.
        self._progress.stop()

    def _on_training_start(self) -> None:
        self._task = self._progress.add_task("", total=self._timesteps, value=0.0)

    def _on_step(self) -> bool:
        episodes = self.model.ep_info_buffer
        value = sum(episode["r"] for episode in episodes) / len(episodes) if episodes else 0.0
        taken = min(self.num_timesteps, self._timesteps)
        self._progress.update(self._task, completed=taken, value=value)
        return True
