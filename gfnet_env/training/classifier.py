"""Stage 1: both encoders and the classifier, on random patches (GFNet, section 3.3)."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import DEFAULT_SPEC, Batch, ImageSet, batches, load_images
from gfnet_env.files import write_json
from gfnet_env.inference.evaluation import evaluate_policy
from gfnet_env.matching import check_fit
from gfnet_env.perception import Encoder, GlanceFocusNetwork, Step
from gfnet_env.perception.geometry import centred_locations
from gfnet_env.policies.fixed import RandomPolicy
from gfnet_env.policies.privileged import TargetPolicy
from gfnet_env.runs import create_run, git_commit, resolve_device, save_config


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What to train, on what, and how."""

    run: Path
    """Folder for the network and its results."""
    images: str = DEFAULT_SPEC
    """Image set: cluttered-digits, cluttered-mnist, folder:PATH, …"""
    image_size: int = 224
    """Side that pictures of a folder are brought to, in pixels."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""
    encoder: str = "compact"
    """Both encoders: compact, or a timm name."""
    weights: str | None = None
    """Initial weights of the encoders: none, pretrained, or a file."""
    patch_size: int = 32
    """P, side of the glance and of the patches, in pixels."""
    focus_steps: int = 3
    """N, focus steps after the glance."""
    classifier: str = "recurrent"
    """How the views of an image are combined."""
    epochs: int = 10
    """Times to go through the training images."""
    batch_size: int = 64
    """Images per step of the optimiser."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW; it warms up over the first twentieth and decays along a cosine."""
    classifier_learning_rate: float | None = None
    """Peak rate of the classifier, which is always new; by default that of the encoders."""
    frozen: tuple[str, ...] = ()
    """Parts of both encoders that keep their weights, by module name: model.conv_stem, …"""
    weight_decay: float = 1e-4
    """Decay of AdamW."""
    encoder_loss: float = 1.0
    """Weight of the cross-entropy of the encoders' own heads (the paper's lambda)."""
    object_share: float = 0.0
    """Share of the training patches put on the object, where the images know its place."""
    flip: bool = False
    """Whether to mirror half of the training images."""
    seed: int = 0
    """Of the weights, the order of images and the patches."""
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
        if not 0 <= self.object_share <= 1:
            raise ValueError(f"object_share must be in [0, 1], not {self.object_share}")


def train_classifier(
    config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> GlanceFocusNetwork:
    """Train a glance-and-focus network and save it, with its accuracies, into the run folder.

    Args:
        config: What to train and how.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The network, in evaluation mode.

    Raises:
        FileExistsError: The run folder exists, and overwriting was not asked for.
        ValueError: A name or a value is wrong, or the loss is no longer finite.
    """
    device = resolve_device(config.device)
    sets = image_sets or {
        split: load_images(
            config.images,
            split,
            image_size=config.image_size,
            data_root=config.data_root,
        )
        for split in ("train", "val", "test")
    }
    torch.manual_seed(config.seed)
    network = GlanceFocusNetwork.build(
        encoder=config.encoder,
        patch_size=config.patch_size,
        num_classes=sets["train"].num_classes,
        focus_steps=config.focus_steps,
        classifier=config.classifier,
        weights=config.weights,
        class_names=sets["train"].class_names,
        metadata={
            "images": None if image_sets else config.images,
            "image_size": config.image_size,
            "seed": config.seed,
            "commit": git_commit(),
        },
    ).to(device)
    for images in sets.values():
        check_fit(network, images)
    frozen = _frozen_parts(network, config.frozen)
    run = create_run(config.run, overwrite=config.overwrite)
    save_config(run, config)
    with SummaryWriter(run / "tensorboard") as board, Progress() as progress:
        _optimise(network, frozen, sets, config, board, progress)

    accuracy = _accuracies(network, sets["test"])
    network.config.metadata["test_accuracy"] = accuracy
    network.save(run)
    write_json(run / "results.json", {"images": len(sets["test"]), "accuracy": accuracy})
    return network


def _optimise(
    network: GlanceFocusNetwork,
    frozen: list[nn.Module],
    sets: Mapping[str, ImageSet],
    config: ClassifierConfig,
    board: SummaryWriter,
    progress: Progress,
) -> None:
    images = sets["train"]
    rng = np.random.default_rng(config.seed)
    encoders = [*network.global_encoder.parameters(), *network.local_encoder.parameters()]
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": encoders, "lr": rate},
        {
            "params": [*network.classifier.parameters()],
            "lr": config.classifier_learning_rate or rate,
        },
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    total = config.epochs * math.ceil(len(images) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, functools.partial(_warmup_and_cosine, total=total)
    )
    bar = progress.add_task("stage 1", total=total)
    for epoch in range(config.epochs):
        network.train()
        for part in frozen:
            part.eval()
        order = rng.permutation(len(images))
        if len(order) % config.batch_size == 1:
            # Batch norm has no statistics of a single image.
            order = order[:-1]
        for batch in batches(images, config.batch_size, order, network.device):
            pixels, locations = _augment(batch, images, network, config, rng)
            loss = _loss(network, pixels, batch.labels, locations, config.encoder_loss)
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
        network.eval()
        accuracy = evaluate_policy(network, RandomPolicy(), sets["val"]).accuracy
        for step, value in enumerate(accuracy):
            board.add_scalar(f"val/accuracy_step_{step}", value, epoch + 1)
        listed = " ".join(f"{value:.3f}" for value in accuracy)
        progress.console.print(f"epoch {epoch + 1}: accuracy per step, random patches: {listed}")


def _frozen_parts(network: GlanceFocusNetwork, names: tuple[str, ...]) -> list[nn.Module]:
    """The named parts of both encoders, their gradients switched off."""
    parts = []
    for encoder in (network.global_encoder, network.local_encoder):
        for name in names:
            try:
                parts.append(encoder.get_submodule(name).requires_grad_(requires_grad=False))
            except AttributeError as error:
                known = ", ".join(child for child, _ in encoder.named_modules() if child)
                raise ValueError(f"no part {name!r} to freeze; known: {known}") from error
    return parts


def _warmup_and_cosine(step: int, total: int) -> float:
    """Share of the peak rate: up over the first twentieth, then down along a cosine."""
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _augment(
    batch: Batch,
    images: ImageSet,
    network: GlanceFocusNetwork,
    config: ClassifierConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, H, W), mirrored or not, and the locations of their patches (N, B, 2)."""
    pixels, device = batch.pixels, network.device
    count = len(pixels)
    random = rng.uniform(-1, 1, (config.focus_steps, count, 2)).astype(np.float32)
    locations = torch.from_numpy(random).to(device)
    if images.boxes is not None and config.object_share > 0:
        boxes = images.boxes[torch.from_numpy(batch.indices)].to(device)
        reach = network.patch_size / 4
        jitter = rng.uniform(-reach, reach, (config.focus_steps, count, 2)).astype(np.float32)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + torch.from_numpy(jitter).to(device)
        size = (pixels.shape[2], pixels.shape[3])
        on_object = centred_locations(centres, size, network.patch_size)
        chosen = rng.random((config.focus_steps, count, 1)) < config.object_share
        locations = torch.where(torch.from_numpy(chosen).to(device), on_object, locations)
    if config.flip:
        mirrored = torch.from_numpy(rng.random(count) < 0.5).to(device)
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
        locations[..., 1] = torch.where(mirrored, -locations[..., 1], locations[..., 1])
    return pixels, locations


def _loss(
    network: GlanceFocusNetwork,
    pixels: Tensor,
    labels: Tensor,
    locations: Tensor,
    encoder_loss: float,
) -> Tensor:
    """Mean over the steps of the cross-entropies of the classifier and of the encoder's head."""

    def step_loss(step: Step, encoder: Encoder) -> Tensor:
        own = functional.cross_entropy(encoder.head(step.vector), labels)
        return functional.cross_entropy(step.logits, labels) + encoder_loss * own

    step = network.glance(pixels)
    losses = [step_loss(step, network.global_encoder)]
    for chosen in locations:
        step = network.focus(pixels, chosen, step)
        losses.append(step_loss(step, network.local_encoder))
    return torch.stack(losses).mean()


def _accuracies(network: GlanceFocusNetwork, images: ImageSet) -> dict[str, list[float]]:
    """Accuracy per step, glance first, with random patches and, if known, with perfect ones."""
    policies: list[RandomPolicy | TargetPolicy] = [RandomPolicy()]
    if images.boxes is not None:
        policies.append(TargetPolicy())
    return {
        policy.name: evaluate_policy(network, policy, images).accuracy.round(6).tolist()
        for policy in policies
    }
