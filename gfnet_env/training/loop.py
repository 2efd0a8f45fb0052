"""The training loop: checkpoints it can go on from, validation after every epoch."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich import get_console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.images import ImageSet, augment
from gfnet_env.precision import autocast
from gfnet_env.runs import Run
from gfnet_env.training.config import MAY_CHANGE, TrainingConfig
from gfnet_env.training.optimisation import averaged, build_average, build_optimiser, build_rates
from gfnet_env.training.processes import Part, Processes, Shares


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
            ``Batch``, the image set as it is seen in the epoch, and the epoch. One call is all that
            a backward pass goes through, so that gradients of several processes can be averaged in
            it.
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


@contextlib.contextmanager
def open_run(
    config: TrainingConfig,
    processes: Processes,
    *,
    inputs: Iterable[Path | None] = (),
    parts: Iterable[Path] = (),
) -> Iterator[Run]:
    """``Run.open`` in the first of several processes; the others wait for it.

    Args:
        config: Says where, and what becomes of an earlier run.
        processes: Those that train.
        inputs: See ``Run.open``.
        parts: Likewise.

    Raises:
        FileExistsError: See ``Run.open``.
        ValueError: Likewise.
    """
    run = Run(config.run)
    with contextlib.ExitStack() as stack:
        if processes.is_main:
            opened = Run.open(
                *(config.run, config, config.control),
                may_change=MAY_CHANGE,
                inputs=inputs,
                parts=parts,
            )
            run = stack.enter_context(opened)
        processes.wait()
        if run.complete and processes.is_main:
            get_console().print(f"{run.folder} is complete; there is nothing to resume")
        yield run


def fit(
    task: Task,
    images: ImageSet,
    config: TrainingConfig,
    shares: Shares,
    run: Run,
    progress: Progress,
) -> None:
    """Train a model, and leave it in evaluation mode.

    What is drawn (the order of images, what is done to each, dropout) depends only on the seed and
    the step. So a run that was interrupted ends with the same weights as one that was not, to the
    bit on one process; and several processes see the same batches as one.

    Args:
        task: What is learned.
        images: The training split.
        config: How, resolved.
        shares: Which of the images this process takes.
        run: Where checkpoints and TensorBoard logs go; training goes on from its last checkpoint.
        progress: Shows how far it is.

    Raises:
        ValueError: The loss is no longer finite, or the checkpoint is damaged or of other images.
    """
    training = _Training(task, images, config, shares, run)
    training.restore()
    bar = progress.add_task(task.title, total=training.total, completed=training.step)
    with _board(run.folder, training.step, shares.processes) as board:
        for epoch in range(training.step // shares.steps, config.schedule.epochs):
            for loss in training.epoch(epoch):
                progress.advance(bar)
                if board is not None:
                    board.add_scalar("train/loss", loss, training.step)
                if training.checkpoint_is_due:
                    training.save(board)
            accuracies = training.validate()
            if board is not None:
                _report(accuracies, f"{task.title}, epoch {epoch + 1}", board, training.step)
            training.save(board)
    training.finish()


def _report(accuracies: Mapping[str, float], title: str, board: SummaryWriter, step: int) -> None:
    """Log and print accuracies on the validation split."""
    for name, value in accuracies.items():
        board.add_scalar(f"val/accuracy_{name}", value, step)
    listed = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
    get_console().print(f"{title}: accuracy {listed}")


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
        run: Run,
    ) -> None:
        self.step, self.total = 0, config.schedule.epochs * shares.steps
        self._task, self._images, self._config = task, images, config
        self._shares, self._processes = shares, shares.processes
        for module in task.frozen:
            module.requires_grad_(requires_grad=False)
        self._objective = self._processes.wrap(task.objective)
        self._optimiser = build_optimiser(task.encoders, task.classifiers, config.schedule)
        self._rates = build_rates(self._optimiser, config.schedule, self.total, self.step)
        self._average = build_average(task.model, config.schedule.average_decay)
        self._run = run
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Go on from the latest checkpoint, where there is one."""
        state = self._run.checkpoints.load(self._processes.device)
        if state is not None:
            if state["images"] != len(self._images):
                raise ValueError(
                    f"{self._run.folder} was begun on {state['images']} training images, not "
                    f"{len(self._images)}; resume it with those, or give another folder"
                )
            self._task.model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.step = state["step"]
            schedule = self._config.schedule
            self._rates = build_rates(self._optimiser, schedule, self.total, self.step)
        # None may write the next checkpoint while another still reads this one.
        self._processes.wait()

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether it is time for one; at the end of an epoch comes validation first."""
        due = time.monotonic() >= self._saved_at + 60 * self._config.control.checkpoint_minutes
        return due and self.step % self._shares.steps > 0

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
            self._run.checkpoints.save(self.step, state)
        self._saved_at = time.monotonic()

    def epoch(self, epoch: int) -> Iterator[float]:
        """Take what is left of an epoch's steps; the loss of each."""
        task, seed = self._task, self._config.options.seed
        task.model.train()
        for module in task.frozen:
            module.eval()
        seen = augment(self._images, self._config.schedule, seed=seed, epoch=epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(seen))
        loss = torch.zeros((), device=self._processes.device)
        self._seed()
        for part in self._shares.parts(seen, order, begin=self.step % self._shares.steps):
            loss += self._backward(part, seen, epoch)
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
        key = [self._config.options.seed, self.step, self._processes.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _backward(self, part: Part, images: ImageSet, epoch: int) -> Tensor:
        """Add a part's share to the gradients; its share of the loss of the batch, a scalar."""
        with contextlib.ExitStack() as stack:
            # Gradients are exchanged once a batch.
            if not part.is_last and isinstance(self._objective, DistributedDataParallel):
                stack.enter_context(self._objective.no_sync())
            with autocast(self._processes.device, self._config.options.precision):
                losses = self._objective(part.batch, images, epoch)
            loss: Tensor = losses[: part.counted].sum() / part.total
            # Gradients are averaged over the processes, of which each has but a share of the sum.
            (self._processes.count * loss).backward()
        return loss.detach()

    def _update(self) -> None:
        """One step of the optimiser and of all that follows it."""
        clip_norm = self._config.options.clip_norm
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(self._task.model.parameters(), clip_norm)
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
