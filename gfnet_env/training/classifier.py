"""Stage 1: both encoders and the classifier, on random patches (GFNet, section 3.3)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from gfnet_env.data import Batch, ImageSet
from gfnet_env.files import write_json
from gfnet_env.inference.evaluation import evaluate_policy
from gfnet_env.matching import check_fit
from gfnet_env.perception import Encoder, GlanceFocusNetwork, Step
from gfnet_env.perception.geometry import centred_locations
from gfnet_env.perception.network import GlanceLogits
from gfnet_env.policies.fixed import RandomPolicy
from gfnet_env.policies.privileged import TargetPolicy
from gfnet_env.runs import create_run, git_commit, resolve_device, save_config
from gfnet_env.training.loop import (
    Task,
    TrainingConfig,
    check_frozen,
    fit,
    image_side,
    mirror,
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
    """How the views of an image are combined: recurrent or cascade."""
    memory_size: int | None = None
    """Numbers that the recurrent classifier remembers; by default at most 512."""
    glance_logits: GlanceLogits | None = None
    """Whose logits the glance has: the classifier's or the encoder's; by default the classifier's,
    but the encoder's with a cascade, which has none of the glance."""
    encoder_loss: float = 1.0
    """Weight of the cross-entropy of the encoders' own heads (the paper's lambda)."""
    freeze_global_encoder: bool = False
    """Whether the global encoder, with its own head, keeps its weights."""
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
        memory_size=config.memory_size,
        glance_logits=config.glance_logits,
        weights=config.weights,
        class_names=sets["train"].class_names,
        metadata={
            "images": None if image_sets else config.images,
            "image_size": image_side(sets["train"]),
            "seed": config.seed,
            "commit": git_commit(),
        },
    ).to(device)
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
        frozen=(network.global_encoder,) if config.freeze_global_encoder else (),
        loss=functools.partial(_loss, network, sets["train"], config),
        validate=validate,
    )
    with SummaryWriter(run / "tensorboard") as board, Progress() as progress:
        fit(task, sets["train"], config, device, board, progress)

    accuracy = _accuracies(network, sets["test"])
    network.config.metadata["test_accuracy"] = accuracy
    network.save(run)
    write_json(run / "results.json", {"images": len(sets["test"]), "accuracy": accuracy})
    return network


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
        pixels = mirror(pixels, mirrored)
        locations[..., 1] = torch.where(mirrored, -locations[..., 1], locations[..., 1])
    return pixels, locations


def _loss(
    network: GlanceFocusNetwork,
    images: ImageSet,
    config: ClassifierConfig,
    batch: Batch,
    rng: np.random.Generator,
) -> Tensor:
    """Mean over the steps of the cross-entropies of the classifier and of the encoder's head.

    Where the glance's logits are those of the encoder's head, they count once, as the classifier's.
    """
    pixels, locations = _augment(batch, images, network, config, rng)

    def own_loss(step: Step, encoder: Encoder) -> Tensor:
        return config.encoder_loss * functional.cross_entropy(
            encoder.head(step.vector), batch.labels
        )

    step = network.glance(pixels)
    losses = [functional.cross_entropy(step.logits, batch.labels)]
    if network.glance_logits == "classifier":
        losses.append(own_loss(step, network.global_encoder))
    for chosen in locations:
        step = network.focus(pixels, chosen, step)
        losses.append(functional.cross_entropy(step.logits, batch.labels))
        losses.append(own_loss(step, network.local_encoder))
    return torch.stack(losses).sum() / (1 + len(locations))


def _accuracies(network: GlanceFocusNetwork, images: ImageSet) -> dict[str, list[float]]:
    """Accuracy per step, glance first, with random patches and, if known, with perfect ones."""
    policies: list[RandomPolicy | TargetPolicy] = [RandomPolicy()]
    if images.boxes is not None:
        policies.append(TargetPolicy())
    return {
        policy.name: evaluate_policy(network, policy, images).accuracy.round(6).tolist()
        for policy in policies
    }
