"""Stage 1: both encoders and the classifier, on random patches (GFNet, section 3.3)."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import Batch, ImageSet
from gfnet_env.files import load_tensors, write_json
from gfnet_env.inference.evaluation import evaluate_policy
from gfnet_env.matching import check_fit
from gfnet_env.perception import (
    Encoder,
    GlanceFocusNetwork,
    StaticNetwork,
    Step,
    load_static_networks,
)
from gfnet_env.perception.geometry import centred_locations
from gfnet_env.policies.fixed import RandomPolicy
from gfnet_env.policies.privileged import TargetPolicy
from gfnet_env.runs import create_run, git_commit, resolve_device, save_config
from gfnet_env.training.loop import (
    Task,
    TrainingConfig,
    check_frozen,
    fit,
    image_side,
    open_splits,
)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """What to train, on what, and how."""

    patch_size: int = 32
    """P, side of the glance and of the patches, in pixels."""
    focus_steps: int = 3
    """N, focus steps after the glance."""
    classifier: str = "recurrent"
    """How the views of an image are combined."""
    baseline: Path | None = None
    """Run folder of train_baseline.py: the global encoder begins as its network of resolution P,
    the local one as that of the most (the paper begins with networks of whole images, too)."""
    encoder_loss: float = 1.0
    """Weight of the cross-entropy of the encoders' own heads (the paper's lambda)."""
    object_share: float = 0.0
    """Share of the training patches put on the object, where the images know its place."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
    sets = image_sets or open_splits(config)
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
            "image_size": image_side(sets["train"]),
            "image_seed": config.image_seed,
            "seed": config.seed,
            "commit": git_commit(),
        },
    )
    if config.baseline is not None:
        _begin_with(network, load_static_networks(config.baseline), config.baseline)
    network.to(device)
    for images in sets.values():
        check_fit(network, images)
    encoders = (network.global_encoder, network.local_encoder)
    check_frozen(encoders, config.frozen)
    run = create_run(config.run, overwrite=config.overwrite)
    save_config(run, config)

    def validate() -> dict[str, float]:
        accuracy = evaluate_policy(network, RandomPolicy(), sets["val"]).accuracy
        return {f"step_{step}": value for step, value in enumerate(accuracy)}

    task = Task(
        title="stage 1",
        model=network,
        encoders=encoders,
        classifiers=(network.classifier,),
        loss=functools.partial(_loss, network, config),
        validate=validate,
    )
    with SummaryWriter(run / "tensorboard") as board, Progress() as progress:
        fit(task, sets["train"], config, device, board, progress)

    accuracy = _accuracies(network, sets["test"])
    network.config.metadata["test_accuracy"] = accuracy
    network.save(run)
    write_json(run / "results.json", {"images": len(sets["test"]), "accuracy": accuracy})
    return network


def _begin_with(
    network: GlanceFocusNetwork, baselines: Sequence[StaticNetwork], folder: Path
) -> None:
    """Give the encoders the weights of static networks."""
    by_resolution = {static.config.resolution: static for static in baselines}
    if network.patch_size not in by_resolution:
        raise ValueError(
            f"{folder} holds static networks of {', '.join(map(str, by_resolution))} pixels and "
            f"none of the patch size, {network.patch_size}; train one with --resolutions"
        )
    full = by_resolution[max(by_resolution)]
    for encoder, static in (
        (network.global_encoder, by_resolution[network.patch_size]),
        (network.local_encoder, full),
    ):
        load_tensors(encoder, static.encoder.state_dict(), folder)


def _locations(
    batch: Batch,
    network: GlanceFocusNetwork,
    config: ClassifierConfig,
    rng: np.random.Generator,
) -> Tensor:
    """Where the patches of a batch are, (N, B, 2)."""
    count, device = len(batch.pixels), network.device
    random = rng.uniform(-1, 1, (config.focus_steps, count, 2)).astype(np.float32)
    locations = torch.from_numpy(random).to(device)
    if batch.boxes is None or config.object_share == 0:
        return locations
    reach = network.patch_size / 4
    jitter = rng.uniform(-reach, reach, (config.focus_steps, count, 2)).astype(np.float32)
    centres = (batch.boxes[:, :2] + batch.boxes[:, 2:]) / 2 + torch.from_numpy(jitter).to(device)
    size = (batch.pixels.shape[2], batch.pixels.shape[3])
    on_object = centred_locations(centres, size, network.patch_size)
    chosen = rng.random((config.focus_steps, count, 1)) < config.object_share
    return torch.where(torch.from_numpy(chosen).to(device), on_object, locations)


def _loss(
    network: GlanceFocusNetwork,
    config: ClassifierConfig,
    batch: Batch,
    rng: np.random.Generator,
) -> Tensor:
    """Mean over the steps of the cross-entropies of the classifier and of the encoder's head."""

    def step_loss(step: Step, encoder: Encoder) -> Tensor:
        own = functional.cross_entropy(encoder.head(step.vector), batch.labels)
        return functional.cross_entropy(step.logits, batch.labels) + config.encoder_loss * own

    step = network.glance(batch.pixels)
    losses = [step_loss(step, network.global_encoder)]
    for chosen in _locations(batch, network, config, rng):
        step = network.focus(batch.pixels, chosen, step)
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
