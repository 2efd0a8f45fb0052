"""The training loop: checkpoints it can go on from, validation after every epoch."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import ImageSet
from gfnet_env.files import write_json
from gfnet_env.runs import create_run, resume_run, save_config
from gfnet_env.training.augmentation import Mirrored
from gfnet_env.training.checkpoint import Checkpoints
from gfnet_env.training.config import MAY_CHANGE, TrainingConfig
from gfnet_env.training.optimisation import build_average, build_optimiser, build_rates
from gfnet_env.training.processes import Part, Processes, Shares

_RESULTS = "results.json"


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
            ``Batch``, the image set that it is from and the epoch. One call is all that a backward
            pass goes through, so that gradients of several processes can be averaged in it.
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


def open_run(config: TrainingConfig, processes: Processes) -> bool:
    """Make the run folder, or see that it was begun with this configuration.

    Returns:
        Whether the run is complete already.

    Raises:
        FileExistsError: The folder holds something, and it was not said what to do with it.
        ValueError: A run to be resumed was begun with other values.
    """
    if processes.is_main and not (config.resume and resume_run(config.run, config, MAY_CHANGE)):
        create_run(config.run, overwrite=config.overwrite or config.resume)
        # What a run that is written over has left could be taken for this one's.
        (config.run / _RESULTS).unlink(missing_ok=True)
        _clear_checkpoints(config.run)
        save_config(config.run, config)
    processes.wait()
    complete = (config.run / _RESULTS).is_file()
    if complete and processes.is_main:
        Console().print(f"{config.run} is complete; there is nothing to resume")
    return complete


def close_run(folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``results.json``, which says that a run is complete, and remove its checkpoints."""
    write_json(folder / _RESULTS, results)
    _clear_checkpoints(folder)


def _clear_checkpoints(run: Path) -> None:
    for folder in run.glob("**/checkpoints"):
        Checkpoints(folder).clear()


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
    processes = shares.processes
    total = config.epochs * shares.steps
    for module in task.frozen:
        module.requires_grad_(requires_grad=False)
    objective = processes.wrap(task.objective)
    optimiser = build_optimiser(task.encoders, task.classifiers, config)
    average = build_average(task.model, config.average_decay)
    checkpoints = Checkpoints(folder / "checkpoints")

    step = 0
    saved = checkpoints.load(processes.device) if config.resume else None
    if saved is not None:
        if saved["images"] != len(images):
            raise ValueError(
                f"{config.run} was begun on {saved['images']} training images, not {len(images)}; "
                "resume it with those, or give another folder"
            )
        task.model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        if average is not None:
            average.load_state_dict(saved["average"])
        step = saved["step"]
    del saved
    rates = build_rates(optimiser, config, total, step)
    # None may write the next checkpoint while another still reads this one.
    processes.wait()

    def save_checkpoint() -> None:
        if processes.is_main:
            state: dict[str, Any] = {
                "step": step,
                "images": len(images),
                "model": task.model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average.state_dict() if average is not None else None,
            }
            checkpoints.save(step, state)

    bar = progress.add_task(task.title, total=total, completed=step)
    with _board(folder, step, processes) as board:
        saved_at = time.monotonic()
        for epoch in range(step // shares.steps, config.epochs):
            _train_mode(task)
            seen = Mirrored(images, config.seed, epoch) if config.flip else images
            order = np.random.default_rng([config.seed, epoch]).permutation(len(images))
            _seed(config, step, processes)
            loss = torch.zeros((), device=processes.device)
            for part in shares.parts(seen, order, begin=step % shares.steps):
                loss += _backward(objective, part, seen, epoch, config, processes)
                if not part.is_last:
                    continue
                mean = processes.total(loss).item()
                if not np.isfinite(mean):
                    raise ValueError(
                        f"the loss is {mean} after {step} steps; lower the learning_rate"
                    )
                if config.clip_norm is not None:
                    nn.utils.clip_grad_norm_(task.model.parameters(), config.clip_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                rates.step()
                if average is not None:
                    average.update_parameters(task.model)
                step += 1
                loss = torch.zeros_like(loss)
                _seed(config, step, processes)
                progress.advance(bar)
                if board is not None:
                    board.add_scalar("train/loss", mean, step)
                # At the end of an epoch it is validated first.
                due = time.monotonic() - saved_at >= 60 * config.checkpoint_minutes
                if due and step % shares.steps:
                    save_checkpoint()
                    saved_at = time.monotonic()
            task.model.eval()
            with _averaged(task.model, average):
                accuracies = _validate(task, processes)
            if board is not None:
                for name, value in accuracies.items():
                    board.add_scalar(f"val/accuracy_{name}", value, step)
            listed = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
            progress.console.print(f"{task.title}, epoch {epoch + 1}: accuracy {listed}")
            save_checkpoint()
            saved_at = time.monotonic()
    task.model.eval()
    if average is not None:
        task.model.load_state_dict(average.module.state_dict())


def show_progress(processes: Processes) -> Progress:
    """A progress display; only the first of several processes shows one."""
    return Progress(disable=not processes.is_main)


def _train_mode(task: Task) -> None:
    task.model.train()
    for module in task.frozen:
        module.eval()


def _seed(config: TrainingConfig, step: int, processes: Processes) -> None:
    """Seed what layers draw, dropout for one, in a step."""
    sequence = np.random.SeedSequence([config.seed, step, processes.rank])
    torch.manual_seed(int(sequence.generate_state(1)[0]))


def _backward(
    objective: nn.Module,
    part: Part,
    images: ImageSet,
    epoch: int,
    config: TrainingConfig,
    processes: Processes,
) -> torch.Tensor:
    """Add a part's share to the gradients; its share of the loss of the batch, a scalar."""
    with contextlib.ExitStack() as stack:
        # Gradients are exchanged once a batch.
        if not part.is_last and isinstance(objective, DistributedDataParallel):
            stack.enter_context(objective.no_sync())
        with torch.autocast(
            processes.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
        ):
            losses = objective(part.batch, images, epoch)
        loss = losses[: part.counted].sum() / part.total
        # Gradients are averaged over the processes, of which each has but its share of the sum.
        (processes.count * loss).backward()
    return loss.detach()


def _validate(task: Task, processes: Processes) -> dict[str, float]:
    """Accuracies on the validation split, of which every process takes its share."""
    share = np.arange(processes.rank, task.validation_images, processes.count)
    # One that has none looks at an image that is not counted.
    correct = task.validate(share if len(share) else np.zeros(1, dtype=np.int64))
    counts = [int(right[: len(share)].sum()) for right in correct.values()]
    totals = processes.total(torch.tensor(counts, device=processes.device))
    accuracies = (totals / task.validation_images).tolist()
    return dict(zip(correct, accuracies, strict=True))


@contextlib.contextmanager
def _averaged(model: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Give a model its average weights for a while."""
    if average is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)


@contextlib.contextmanager
def _board(folder: Path, step: int, processes: Processes) -> Iterator[SummaryWriter | None]:
    """TensorBoard logs of the first process, without what came after the step it goes on from."""
    if not processes.is_main:
        yield None
        return
    with SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None) as board:
        yield board
