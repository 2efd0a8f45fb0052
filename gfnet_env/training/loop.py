"""The training loop: checkpoints it can go on from, validation after every epoch."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import ImageSet, augment
from gfnet_env.files import write_json
from gfnet_env.perception.precision import autocast
from gfnet_env.runs import create_run, resume_run, save_config
from gfnet_env.training.checkpoint import Checkpoints
from gfnet_env.training.config import MAY_CHANGE, TrainingConfig
from gfnet_env.training.optimisation import averaged, build_average, build_optimiser, build_rates
from gfnet_env.training.processes import Part, Processes, Shares

_RESULTS = "results.json"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned.

    Attributes:
        title: What the progress bar calls it.
        model: What is trained.
        encoders: Its encoders, whose parts may be frozen.
        classifiers: Its modules, heads of encoders too, that may have a rate of their own.
        frozen: Its modules that keep their weights and statistics.
        objective: A module around the model that gives the loss of every image, (B,), of a
            ``Batch`` and the epoch. One call is all that a backward pass goes through, so that
            gradients of several processes can be averaged in it.
        validate: Whether the model is right about some images of the validation split, given by
            index: (n,) bool each, by the names of what is watched.
        validation_images: Images of that split.
    """

    title: str
    model: nn.Module
    encoders: Sequence[nn.Module]
    classifiers: Sequence[nn.Module]
    frozen: Sequence[nn.Module]
    objective: nn.Module
    validate: Callable[[npt.NDArray[np.int64]], Mapping[str, npt.NDArray[np.bool_]]]
    validation_images: int


def open_run(
    config: TrainingConfig,
    processes: Processes,
    parts: Collection[Path] = (),
    done: str = "",
    stale: Collection[str] = (),
) -> bool:
    """Make the run folder, or see that it was begun with this configuration.

    Args:
        config: With the folder.
        processes: Those that train.
        parts: Folders of what it trains one after the other, if it does.
        done: Name of the file that says that a part is complete.
        stale: Names of what else a run that is written over may have left.

    Returns:
        Whether the run is complete already.

    Raises:
        FileExistsError: The folder holds something, and it was not said what to do with it.
        ValueError: A run to be resumed was begun with other values.
    """
    if processes.is_main and not (config.resume and resume_run(config.run, config, MAY_CHANGE)):
        create_run(config.run, overwrite=config.overwrite or config.resume)
        # What a run that is written over has left could be taken for this one's.
        left = (config.run / name for name in (_RESULTS, *stale))
        for file in (*left, *(part / done for part in parts)):
            file.unlink(missing_ok=True)
        _clear_checkpoints(config.run, parts)
        save_config(config.run, config)
    processes.wait()
    complete = (config.run / _RESULTS).is_file()
    if complete and processes.is_main:
        Console().print(f"{config.run} is complete; there is nothing to resume")
    return complete


def close_run(folder: Path, results: Mapping[str, Any], parts: Collection[Path] = ()) -> None:
    """Write ``results.json``, which says that a run is complete, and remove its checkpoints."""
    write_json(folder / _RESULTS, results)
    _clear_checkpoints(folder, parts)


def _clear_checkpoints(run: Path, parts: Collection[Path]) -> None:
    for folder in (run, *parts):
        Checkpoints(folder / _CHECKPOINTS).clear()


def fit(
    task: Task,
    images: ImageSet,
    config: TrainingConfig,
    shares: Shares,
    folder: Path,
    progress: Progress,
) -> None:
    """Train a model; it is left in evaluation mode.

    What is drawn (the order of images, what is done to each, dropout) depends on the seed and the
    step alone. So a run that goes on from a checkpoint ends where it would have without the
    interruption, to the bit on one process; and processes that share a batch see what one would.

    Args:
        task: What is learned.
        images: What from.
        config: How.
        shares: Which of the images this process takes.
        folder: For checkpoints and TensorBoard logs.
        progress: Shows how far it is.

    Raises:
        ValueError: The loss is no longer finite, or the checkpoint to go on from is damaged or of
            other images.
    """
    training = _Training(task, images, config, shares, Checkpoints(folder / _CHECKPOINTS))
    if config.resume:
        training.restore()
    bar = progress.add_task(task.title, total=training.total, completed=training.step)
    with _board(folder, training.step, shares.processes) as board:
        for epoch in range(training.step // shares.steps, config.epochs):
            for loss in training.epoch(epoch):
                progress.advance(bar)
                if board is not None:
                    board.add_scalar("train/loss", loss, training.step)
                if training.checkpoint_is_due:
                    training.save(board)
            accuracies = training.validate()
            if board is not None:
                for name, value in accuracies.items():
                    board.add_scalar(f"val/accuracy_{name}", value, training.step)
                listed = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
                progress.console.print(f"{task.title}, epoch {epoch + 1}: accuracy {listed}")
            training.save(board)
    training.finish()


def show_progress(processes: Processes) -> Progress:
    """A progress display; only the first of several processes shows one."""
    return Progress(disable=not processes.is_main)


class _Training:
    """A training under way.

    Attributes:
        step: Steps of the optimiser taken.
        total: Steps that it will take.
    """

    def __init__(
        self,
        task: Task,
        images: ImageSet,
        config: TrainingConfig,
        shares: Shares,
        checkpoints: Checkpoints,
    ) -> None:
        self.step, self.total = 0, config.epochs * shares.steps
        self._task, self._images, self._config = task, images, config
        self._shares, self._processes = shares, shares.processes
        for module in task.frozen:
            module.requires_grad_(requires_grad=False)
        self._objective = self._processes.wrap(task.objective)
        self._optimiser = build_optimiser(task.encoders, task.classifiers, config)
        self._rates = build_rates(self._optimiser, config, self.total, self.step)
        self._average = build_average(task.model, config.average_decay)
        self._checkpoints = checkpoints
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Go on from the latest checkpoint, where there is one."""
        state = self._checkpoints.load(self._processes.device)
        if state is not None:
            if state["images"] != len(self._images):
                raise ValueError(
                    f"{self._config.run} was begun on {state['images']} training images, not "
                    f"{len(self._images)}; resume it with those, or give another folder"
                )
            self._task.model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.step = state["step"]
            self._rates = build_rates(self._optimiser, self._config, self.total, self.step)
        # None may write the next checkpoint while another still reads this one.
        self._processes.wait()

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether it is time for one; at the end of an epoch comes validation first."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return minutes >= self._config.checkpoint_minutes and self.step % self._shares.steps > 0

    def save(self, board: SummaryWriter | None) -> None:
        """Write a checkpoint: all that the next step depends on but for the configuration."""
        if board is not None:
            # Or else a kill would leave a gap in the logs before the step that a run goes on from.
            board.flush()
        if self._processes.is_main:
            state: dict[str, Any] = {
                "step": self.step,
                "images": len(self._images),
                "model": self._task.model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "average": self._average.state_dict() if self._average is not None else None,
            }
            self._checkpoints.save(self.step, state)
        self._saved_at = time.monotonic()

    def epoch(self, epoch: int) -> Iterator[float]:
        """Take what is left of an epoch's steps; the loss of each."""
        config, task = self._config, self._task
        task.model.train()
        for module in task.frozen:
            module.eval()
        seen = augment(self._images, config, seed=config.seed, epoch=epoch)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(seen))
        loss = torch.zeros((), device=self._processes.device)
        self._seed()
        for part in self._shares.parts(seen, order, begin=self.step % self._shares.steps):
            loss += self._backward(part, epoch)
            if not part.is_last:
                continue
            mean = self._processes.total(loss).item()
            if not np.isfinite(mean):
                raise ValueError(
                    f"the loss is {mean} after {self.step} steps; lower the learning_rate"
                )
            self._update()
            yield mean
            loss.zero_()
            self._seed()

    def validate(self) -> dict[str, float]:
        """Accuracies on the validation split, of which every process takes its share."""
        task, processes = self._task, self._processes
        task.model.eval()
        share = np.arange(processes.rank, task.validation_images, processes.count)
        with averaged(task.model, self._average):
            # One that has none looks at an image that is not counted.
            correct = task.validate(share if len(share) else np.zeros(1, dtype=np.int64))
        counts = [int(right[: len(share)].sum()) for right in correct.values()]
        totals = processes.total(torch.tensor(counts, device=processes.device))
        accuracies = (totals / task.validation_images).tolist()
        return dict(zip(correct, accuracies, strict=True))

    def finish(self) -> None:
        """Leave the model in evaluation mode, with its average weights where they are kept."""
        self._task.model.eval()
        if self._average is not None:
            self._task.model.load_state_dict(self._average.module.state_dict())

    def _seed(self) -> None:
        """Seed what layers draw in a step, dropout for one."""
        key = [self._config.seed, self.step, self._processes.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _backward(self, part: Part, epoch: int) -> Tensor:
        """Add a part's share to the gradients; its share of the loss of the batch, a scalar."""
        with contextlib.ExitStack() as stack:
            # Gradients are exchanged once a batch.
            if not part.is_last and isinstance(self._objective, DistributedDataParallel):
                stack.enter_context(self._objective.no_sync())
            with autocast(self._processes.device, self._config.precision):
                losses = self._objective(part.batch, epoch)
            loss: Tensor = losses[: part.counted].sum() / part.total
            # Gradients are averaged over the processes, of which each has but a share of the sum.
            (self._processes.count * loss).backward()
        return loss.detach()

    def _update(self) -> None:
        """One step of the optimiser and of all that follows it."""
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._task.model.parameters(), self._config.clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._rates.step()
        if self._average is not None:
            self._average.update_parameters(self._task.model)
        self.step += 1


@contextlib.contextmanager
def _board(folder: Path, step: int, processes: Processes) -> Iterator[SummaryWriter | None]:
    """TensorBoard logs of the first process, without what came after the step it goes on from."""
    if not processes.is_main:
        yield None
        return
    with SummaryWriter(folder / "tensorboard", purge_step=step + 1) as board:
        yield board
