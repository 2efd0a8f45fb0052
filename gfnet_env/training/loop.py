"""The training loop: AdamW, warm-up and cosine decay, validation after every epoch."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import DEFAULT_SPEC, Batch, ImageSet, batches, load_images


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What to train, on what, and how."""

    run: Path
    """Folder for what is trained and its results."""
    images: str = DEFAULT_SPEC
    """Image set: cluttered-digits, cluttered-mnist, folder:PATH, …"""
    image_size: int = 224
    """Side that pictures of a folder are brought to, in pixels."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""
    encoder: str = "compact"
    """Every encoder: compact, or a timm name."""
    weights: str | None = None
    """Initial weights of the encoders: none, pretrained, or a file."""
    epochs: int = 10
    """Times to go through the training images."""
    batch_size: int = 64
    """Images per step of the optimiser."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW; it warms up over the first twentieth and decays along a cosine."""
    classifier_learning_rate: float | None = None
    """Peak rate of the classifier, which is always new; by default that of the encoders."""
    frozen: tuple[str, ...] = ()
    """Parts of every encoder that keep their weights, by module name: model.conv_stem, …"""
    weight_decay: float = 1e-4
    """Decay of AdamW."""
    flip: bool = False
    """Whether to mirror half of the training images."""
    seed: int = 0
    """Of the weights, the order of images and what is drawn for each."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether an existing run may be written into."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "classifier_learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")


def open_splits(config: TrainingConfig) -> dict[str, ImageSet]:
    """The three splits of the configured images."""
    return {
        split: load_images(
            config.images, split, image_size=config.image_size, data_root=config.data_root
        )
        for split in ("train", "val", "test")
    }


def image_side(images: ImageSet) -> int | None:
    """Side of the images, in pixels; None where they are not square."""
    height, width = images[[0]].shape[2:]
    return height if height == width else None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned.

    Attributes:
        title: What the progress bar calls it.
        model: What is trained.
        encoders: Its encoders, of which parts may be frozen.
        classifiers: Its modules, heads of encoders too, that may have a rate of their own.
        loss: The loss of a batch, a scalar; what it draws, it draws from the generator.
        validate: Accuracies to watch, by name.
        frozen: Its modules that keep their weights and statistics as a whole.
    """

    title: str
    model: nn.Module
    encoders: Sequence[nn.Module]
    classifiers: Sequence[nn.Module]
    loss: Callable[[Batch, np.random.Generator], Tensor]
    validate: Callable[[], Mapping[str, float]]
    frozen: Sequence[nn.Module] = ()


def fit(
    task: Task,
    images: ImageSet,
    config: TrainingConfig,
    device: torch.device,
    board: SummaryWriter,
    progress: Progress,
) -> None:
    """Train a model; it is left in evaluation mode.

    Call ``check_frozen`` before: here it is too late for a run folder not to be made.

    Raises:
        ValueError: There is a single image, or the loss is no longer finite.
    """
    whole = [module.requires_grad_(requires_grad=False) for module in task.frozen]
    frozen = [*_freeze(task.encoders, config.frozen), *whole]
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.AdamW(_groups(task, config), weight_decay=config.weight_decay)
    # Batch norm has no statistics of a single image: a last batch of one is left out.
    count = len(images) - (len(images) % config.batch_size == 1)
    if count == 0:
        raise ValueError("one image is too few to train on; give more")
    total = config.epochs * math.ceil(count / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, functools.partial(_warmup_and_cosine, total=total)
    )
    bar = progress.add_task(task.title, total=total)
    for epoch in range(config.epochs):
        task.model.train()
        for part in frozen:
            part.eval()
        order = rng.permutation(len(images))[:count]
        for batch in batches(images, config.batch_size, order, device):
            loss = task.loss(batch, rng)
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss.item()} after {schedule.last_epoch} steps; "
                    "lower the learning_rate"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            board.add_scalar("train/loss", loss.item(), schedule.last_epoch)
            schedule.step()
            progress.advance(bar)
        task.model.eval()
        accuracies = task.validate()
        for name, value in accuracies.items():
            board.add_scalar(f"val/accuracy_{name}", value, epoch + 1)
        listed = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
        progress.console.print(f"{task.title}, epoch {epoch + 1}: accuracy {listed}")


def check_frozen(encoders: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Raises ``ValueError`` unless every encoder has parts of these names."""
    for encoder in encoders:
        known = [name for name, _ in encoder.named_modules() if name]
        for name in names:
            if name not in known:
                raise ValueError(f"no part {name!r} to freeze; known: {', '.join(known)}")


def mirror(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Images (B, 3, H, W), those that are chosen, (B,) bool, mirrored left to right."""
    return torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(3), pixels)


def _freeze(encoders: Sequence[nn.Module], names: Sequence[str]) -> list[nn.Module]:
    """The named parts of the encoders, their gradients switched off."""
    return [
        encoder.get_submodule(name).requires_grad_(requires_grad=False)
        for encoder in encoders
        for name in names
    ]


def _groups(task: Task, config: TrainingConfig) -> list[dict[str, Any]]:
    """The parameters of encoders and classifiers, each with their peak rate."""
    new = [p for module in task.classifiers for p in module.parameters()]
    taken = {id(p) for p in new}
    rest = [p for module in task.encoders for p in module.parameters() if id(p) not in taken]
    rate = config.learning_rate
    return [
        {"params": rest, "lr": rate},
        {"params": new, "lr": config.classifier_learning_rate or rate},
    ]


def _warmup_and_cosine(step: int, total: int) -> float:
    """Share of the peak rate: up over the first twentieth, then down along a cosine."""
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
