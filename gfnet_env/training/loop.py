"""The training loop: resumable from checkpoints, with validation after every epoch."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gfnet_env.console import Bars, PlainConsole
from gfnet_env.images import ImageSet, augment
from gfnet_env.logs import RunLog
from gfnet_env.planning import Plan, amount, count_images, step_seconds
from gfnet_env.precision import autocast
from gfnet_env.runs import Run, check_run
from gfnet_env.settings import Between, checked
from gfnet_env.timing import seconds
from gfnet_env.training.config import MAY_CHANGE, TrainingConfig
from gfnet_env.training.optimisation import (
    averaged,
    build_average,
    build_optimiser,
    build_rates,
    check_optimiser,
)
from gfnet_env.training.processes import Part, Processes, Shares

# Called with the steps so far and the accuracy on val after the last look, whenever it is measured.
# An exception from it ends the training.
OnValidation = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model and how to train it.

    Attributes:
        title: For the progress bar.
        model: The model to train.
        encoders: Its encoders.
        classifiers: Its classifiers and heads, which may have a learning rate of their own.
        frozen: Its frozen modules, which keep their weights and statistics.
        objective: A module around the model. It maps a ``Batch``, the image set as augmented in the
            epoch, and the epoch to the loss of every image, (B,). Each backward pass goes through
            one call of it, which averages gradients over processes.
        validate: Maps indices of validation images to whether the model is right about them, (n,)
            bool for each logged name; the last one decides which epoch is the best.
        validation_labels: Classes of the validation images, (N,) int64.
        memory: What a checkpoint keeps besides the model and the optimiser.
    """

    title: str
    model: nn.Module
    encoders: Sequence[nn.Module]
    classifiers: Sequence[nn.Module]
    frozen: Sequence[nn.Module]
    objective: nn.Module
    validate: Callable[[npt.NDArray[np.int64]], Mapping[str, npt.NDArray[np.bool_]]]
    validation_labels: Tensor
    memory: nn.Module | None = None


@contextlib.contextmanager
def open_run(
    config: TrainingConfig,
    processes: Processes,
    *,
    inputs: Iterable[Path | None] = (),
    parts: Iterable[Path] = (),
) -> Iterator[Run]:
    """Call ``Run.open`` in the first of several processes; the others wait for it.

    Raises:
        SystemExit: In the others, if the first raises an error.
    """
    run = Run(config.run)
    failed = torch.ones(1, device=processes.device)
    with contextlib.ExitStack() as stack:
        try:
            if processes.is_main:
                where = (config.run, config, config.control)
                opened = Run.open(*where, may_change=MAY_CHANGE, inputs=inputs, parts=parts)
                run = stack.enter_context(opened)
            failed.zero_()
        finally:
            # The first process says why; a second traceback would only hide that.
            if processes.total(failed).item() and not processes.is_main:
                raise SystemExit(1)
        if run.complete and processes.is_main:
            PlainConsole().print(f"{run.folder} is complete; there is nothing to resume")
        yield run


def fit(
    task: Task,
    images: ImageSet,
    config: TrainingConfig,
    shares: Shares,
    run: Run,
    on_validation: OnValidation | None = None,
) -> None:
    """Train a model, and leave it in evaluation mode.

    All random draws (the order of images, their augmentation, dropout) depend only on the seed and
    the step. So an interrupted run ends with the same weights as an uninterrupted one, on one
    process bit for bit. Several processes see the same batches as one.

    Args:
        task: The model and how to train it.
        images: The training split.
        config: The resolved configuration.
        shares: Which of the images this process takes.
        run: The run, which keeps checkpoints and TensorBoard logs; training resumes from its last
            checkpoint.
        on_validation: See ``OnValidation``.

    Raises:
        ValueError: The loss is no longer finite, or the checkpoint is damaged or from other images.
    """
    training = _Training(task, images, config, shares, run)
    training.restore()
    is_main = shares.processes.is_main
    with (
        Bars(disable=not is_main) as progress,
        _log(run, config, training.step, is_main) as log,
        run.interruptible(),
    ):
        bar = progress.add_task(task.title, total=training.total, completed=training.step)
        for epoch in range(training.step // shares.steps, config.schedule.epochs):
            if training.is_stopped:
                progress.console.print(
                    f"{task.title}: ended after {epoch} epochs, since accuracy on val rose no more"
                )
                break
            for loss in training.epoch(epoch):
                progress.advance(bar)
                if log is not None:
                    log.add_scalar("train/loss", loss, training.step)
                if training.checkpoint_is_due:
                    training.save(log)
            accuracies = training.validate()
            if log is not None:
                title = f"{task.title}, epoch {epoch + 1}"
                _report(accuracies, title, log, training.step, progress.console)
            training.save(log)
            if on_validation is not None:
                on_validation(training.step, [*accuracies.values()][-1])
    training.finish()


def plan_fit(
    task: Task, sets: Mapping[str, ImageSet], config: TrainingConfig, shares: Shares, forward: int
) -> Plan:
    """What ``fit`` would do and cost. It trains the model for a few steps, and writes nothing.

    Args:
        task: What to train.
        sets: The images by split.
        config: See ``fit``.
        shares: See ``fit``.
        forward: Multiply-adds of one image in a forward pass.
    """
    check_run(config.run, config.control)
    training = _Training(task, sets["train"], config, shares, Run(config.run))
    step = step_seconds(training.epoch(0))
    batch = np.arange(min(config.schedule.batch_size, len(sets["val"])))
    task.model.eval()
    image = seconds(lambda: task.validate(batch), shares.processes.device) / len(batch)
    epochs, trained = config.schedule.epochs, config.schedule.epochs * len(sets["train"])
    validated = epochs * len(sets["val"])
    figures = {
        "images": count_images(sets),
        "steps": f"{training.total:,}: {epochs} epochs of {shares.steps:,} steps",
        # A backward pass computes gradients of activations and of weights.
        "multiply-adds": f"{amount(forward)} an image in a forward pass, "
        f"{amount((3 * trained + validated) * forward)} in all",
        "a step": f"{step:.3f} seconds for {config.schedule.batch_size} images",
    }
    return Plan(config, figures, training.total * step + validated * image)


def _log(
    run: Run, config: TrainingConfig, step: int, is_main: bool
) -> AbstractContextManager[RunLog | None]:
    """The log of the first process."""
    if not is_main:
        return contextlib.nullcontext()
    return RunLog(run.folder, config.control.log, steps=step, settings=config.to_json())


def _report(
    accuracies: Mapping[str, float], title: str, log: RunLog, step: int, console: Console
) -> None:
    """Log and print accuracies on the validation split."""
    for name, value in accuracies.items():
        log.add_scalar(f"val/accuracy_{name}", value, step)
    listed = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
    console.print(f"{title}: accuracy {listed}")


class _Training:
    """A training under way.

    Attributes:
        step: Number of optimiser steps taken.
        total: Number of optimiser steps to take.
    """

    def __init__(
        self, task: Task, images: ImageSet, config: TrainingConfig, shares: Shares, run: Run
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
        self._weights = self._image_weights(images.labels).to(shares.processes.device)
        # Its accuracy, the epochs since, and its weights if they are wanted at the end.
        self._best: dict[str, Any] | None = None
        self._run = run

    def restore(self) -> None:
        """Resume from the latest checkpoint, if there is one."""
        self._run.checkpoints.restore(self._processes.device, self._put)
        # No process may write the next checkpoint while another reads this one.
        self._processes.wait()

    def _put(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``save`` wrote."""
        if state["images"] != len(self._images):
            raise ValueError(
                f"it was begun on {state['images']} training images, not {len(self._images)}"
            )
        self.step = checked("its step", state["step"], Annotated[int, Between(0, self.total)])
        self._task.model.load_state_dict(state["model"])
        check_optimiser(self._optimiser, state["optimiser"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._task.memory is not None:
            self._task.memory.load_state_dict(state["memory"])
        self._best = state.get("best")
        schedule = self._config.schedule
        self._rates = build_rates(self._optimiser, schedule, self.total, self.step)

    @property
    def is_stopped(self) -> bool:
        """Whether training ends early."""
        patience = self._config.schedule.early_stopping_patience
        return patience is not None and self._best is not None and self._best["since"] >= patience

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether a checkpoint is due within an epoch; at the end, validation comes first."""
        return self._run.checkpoint_is_due and self.step % self._shares.steps > 0

    def save(self, log: RunLog | None) -> None:
        """Write a checkpoint with everything the next step depends on, except the configuration."""
        if log is not None:
            # Otherwise a kill would leave a gap in the logs before the checkpoint.
            log.flush()
        if self._processes.is_main:
            state: dict[str, Any] = {
                "step": self.step,
                "images": len(self._images),
                "model": self._task.model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "average": self._average.state_dict() if self._average is not None else None,
                "memory": self._task.memory.state_dict() if self._task.memory is not None else None,
                "best": self._best,
            }
            self._run.save_checkpoint(self.step, state)

    def epoch(self, epoch: int) -> Iterator[float]:
        """Take the remaining steps of an epoch, and yield the loss of each."""
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
        """Accuracies on the validation split, shared by the processes; the best model is noted."""
        task, processes = self._task, self._processes
        task.model.eval()
        weights = self._image_weights(task.validation_labels).numpy()
        share = np.arange(processes.rank, len(weights), processes.count)
        with averaged(task.model, self._average):
            # A process without a share uses an image that is not counted.
            correct = task.validate(share if len(share) else np.zeros(1, dtype=np.int64))
            counts = [float(right[: len(share)] @ weights[share]) for right in correct.values()]
            totals = processes.total(torch.tensor(counts, device=processes.device))
            accuracies = (totals / len(weights)).tolist()
            self._note(accuracies[-1])
        return dict(zip(correct, accuracies, strict=True))

    def _note(self, accuracy: float) -> None:
        """Note whether the model is the most accurate so far, and keep its weights if wanted."""
        if self._best is not None and accuracy <= self._best["accuracy"]:
            self._best["since"] += 1
            return
        model = None
        if self._config.schedule.load_best_model_at_end:
            state = self._task.model.state_dict()
            model = {name: tensor.detach().clone() for name, tensor in state.items()}
        self._best = {"accuracy": accuracy, "since": 0, "model": model}

    def finish(self) -> None:
        """Leave the model in evaluation mode, with its best or average weights if there are any."""
        self._task.model.eval()
        if self._best is not None and self._best["model"] is not None:
            self._task.model.load_state_dict(self._best["model"])
        elif self._average is not None:
            self._task.model.load_state_dict(self._average.module.state_dict())

    def _image_weights(self, labels: Tensor) -> Tensor:
        """What each of some images counts, (N,) on the CPU, with a mean of 1."""
        if not self._config.schedule.class_weights:
            return torch.ones(len(labels))
        counts = torch.bincount(labels.cpu())
        return len(labels) / (int((counts > 0).sum()) * counts[labels.cpu()])

    def _seed(self) -> None:
        """Seed the random draws of layers, such as dropout, in a step."""
        key = [self._config.options.seed, self.step, self._processes.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _backward(self, part: Part, images: ImageSet, epoch: int) -> Tensor:
        """Add a part to the gradients; returns its share of the batch's loss, a scalar."""
        with contextlib.ExitStack() as stack:
            # Gradients are exchanged once a batch.
            if not part.is_last and isinstance(self._objective, DistributedDataParallel):
                stack.enter_context(self._objective.no_sync())
            with autocast(self._processes.device, self._config.options.precision):
                losses = self._objective(part.batch, images, epoch)
            losses = losses * self._weights[part.batch.indices]
            loss: Tensor = losses[: part.counted].sum() / part.total
            # Each process has a share of the sum, but gradients are averaged over processes.
            (self._processes.count * loss).backward()
        return loss.detach()

    def _update(self) -> None:
        """Take one step of the optimiser."""
        clip_norm = self._config.options.clip_norm
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(self._task.model.parameters(), clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._rates.step()
        if self._average is not None:
            self._average.update_parameters(self._task.model)
        self.step += 1
