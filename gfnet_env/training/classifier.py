"""Stages 1 and 3: encoders and classifier, on random patches or on those of a learned policy."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.data import SPLITS, Batch, ImageSet, ReadingOptions
from gfnet_env.files import load_tensors
from gfnet_env.inference.early_exit import EarlyExitGFNet, assemble
from gfnet_env.inference.evaluation import evaluate_policy, scene_of, unroll
from gfnet_env.matching import ImageOptions, check_fit, check_split
from gfnet_env.perception import GlanceFocusNetwork, load_static_networks
from gfnet_env.perception.network import GlanceLogits
from gfnet_env.policies.base import Policy, initial_state
from gfnet_env.policies.fixed import RandomPolicy
from gfnet_env.policies.privileged import TargetPolicy
from gfnet_env.runs import git_commit, stale_files, values_of
from gfnet_env.training.config import Schedule, TrainingConfig, image_side, open_splits
from gfnet_env.training.loop import Task, close_run, fit, open_run, show_progress
from gfnet_env.training.optimisation import check_frozen
from gfnet_env.training.patches import TrainingPatches
from gfnet_env.training.processes import Shares, join_processes

# What stage 3 takes over from the network that it goes on with.
_OF_THE_NETWORK = (
    "encoder",
    "patch_size",
    "focus_steps",
    "classifier",
    "memory_size",
    "glance_logits",
)


@dataclass(frozen=True, kw_only=True)
class ClassifierSchedule(Schedule):
    """How to train encoders and a classifier together."""

    encoder_loss: float = 1.0
    """Weight of the cross-entropy of the encoders' own heads (the paper's lambda)."""
    freeze_global_encoder: bool = False
    """Whether the encoder of glances keeps its weights, its own head's too."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not self.encoder_loss >= 0:
            raise ValueError(f"encoder_loss must be at least 0, not {self.encoder_loss}")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """How the network is built, and what it is shown at first."""

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
    baseline: Path | None = None
    """Run folder of train_baseline: the global encoder begins as its network of resolution P, the
    local one as that of the highest (so do the paper's, section 4.1)."""
    object_share: float = 0.0
    """Share of the random patches put on the object, where the images know its place."""

    def __post_init__(self) -> None:
        if not 0 <= self.object_share <= 1:
            raise ValueError(f"object_share must be in [0, 1], not {self.object_share}")


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(ClassifierSchedule, NetworkOptions, TrainingConfig):
    """What to train, on what, and how."""

    policy: Path | None = None
    """Stage 3: run folder of train_policy, whose network is trained on its policy's patches."""

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)
        NetworkOptions.__post_init__(self)
        ClassifierSchedule.__post_init__(self)
        if self.policy is None:
            return
        for name in ("weights", "baseline"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"stage 3 goes on with the network of its policy; leave out {name}"
                )
        if self.object_share > 0:
            raise ValueError("stage 3 has the policy's patches; leave out object_share")


def train_classifier(
    config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> GlanceFocusNetwork:
    """Train a glance-and-focus network and save it, with its accuracies, into the run folder.

    Stage 1 trains a new network on random patches, stage 3 that of a run of ``train_policy`` on
    the patches of its policy, which stays as it is (GFNet, section 3.3). After stage 3 the run
    folder holds the assembled network, its thresholds solved again.

    Args:
        config: What to train and how.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The network, in evaluation mode.

    Raises:
        FileExistsError: The run folder exists, and neither overwriting nor resuming was asked for.
        FileNotFoundError: A folder is missing.
        ValueError: A name or a value is wrong, a run to be resumed was begun with others or has a
            damaged checkpoint, or the loss is no longer finite.
    """
    processes = join_processes(config.device)
    begun = EarlyExitGFNet.load(config.policy) if config.policy else None
    if begun:
        config = _as_begun(config, begun.network)
    sets = image_sets or (_splits_of(begun.network, config) if begun else open_splits(config))
    shares = Shares(len(sets["train"]), config.batch_size, config.accumulation, processes)
    if begun:
        network, policy = begun.network, begun.policy
    else:
        torch.manual_seed(config.seed)
        network, policy = _build(config, sets["train"]), None
    network.config.metadata.update(_origin(config, in_memory=image_sets is not None))
    processes.place(network)
    if isinstance(policy, nn.Module):
        policy.to(processes.device)
    for images in sets.values():
        check_fit(network, images)
    encoders = (network.global_encoder, network.local_encoder)
    check_frozen(encoders, config.frozen)
    stale = stale_files(config.run, [config.policy, config.baseline])
    if open_run(config, processes, stale=stale):
        return GlanceFocusNetwork.load(config.run).to(processes.device)

    watched = RandomPolicy() if policy is None else policy

    def pick(epoch: int) -> Policy:
        if policy is not None:
            return policy
        return TrainingPatches(config.seed, epoch, config.object_share)

    def validate(indices: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
        record = evaluate_policy(network, watched, sets["val"], indices=indices)
        return {f"step_{step}": right for step, right in enumerate(record.correct.T)}

    frozen = [encoder.get_submodule(name) for encoder in encoders for name in config.frozen]
    task = Task(
        title="stage 1" if policy is None else "stage 3",
        model=network,
        encoders=encoders,
        classifiers=(network.classifier,),
        frozen=[network.global_encoder, *frozen] if config.freeze_global_encoder else frozen,
        objective=PatchObjective(network, pick, config.encoder_loss),
        validate=validate,
        validation_images=len(sets["val"]),
    )
    with show_progress(processes) as progress:
        fit(task, sets["train"], config, shares, config.run, progress)
    if processes.is_main:
        _finish(network, policy, sets, config)
    return network


class PatchObjective(nn.Module):
    """The loss of a network over all its steps, on the patches that a policy picks.

    Args:
        network: What is trained.
        pick: The policy of an epoch. Nothing is learned of it.
        encoder_loss: Weight of the cross-entropy of the encoders' own heads.
    """

    def __init__(
        self, network: GlanceFocusNetwork, pick: Callable[[int], Policy], encoder_loss: float
    ) -> None:
        super().__init__()
        self.network = network
        self._pick = pick
        self._encoder_loss = encoder_loss

    def forward(self, batch: Batch, epoch: int) -> Tensor:
        """The loss of each image, (B,): the mean over the steps (GFNet, section 3.3).

        Where the glance's logits are those of the encoder's head, they count once.
        """
        policy, network = self._pick(epoch), self.network
        state = initial_state(policy, scene_of(network, batch))
        losses: list[Tensor] = []
        for step in unroll(network, policy, batch.pixels, state):
            loss = _cross_entropies(step.logits, batch.labels)
            encoder = network.local_encoder if losses else network.global_encoder
            if losses or network.glance_logits == "classifier":
                own = _cross_entropies(encoder.head(step.vector), batch.labels)
                loss = loss + self._encoder_loss * own
            losses.append(loss)
        return torch.stack(losses).mean(dim=0)


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image, (B,), whatever the precision of the logits (B, K)."""
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def _as_begun(config: ClassifierConfig, network: GlanceFocusNetwork) -> ClassifierConfig:
    """``config`` with the network that stage 3 goes on with, and with its images by default."""
    default = ClassifierConfig(run=config.run)
    kept = {name: getattr(network.config, name) for name in _OF_THE_NETWORK}
    for name, value in kept.items():
        if getattr(config, name) not in (getattr(default, name), value):
            raise ValueError(
                f"{name} is {value} in {config.policy}, not {getattr(config, name)}; stage 3 goes "
                "on with its network: leave it out"
            )
    trained_on = network.config.metadata
    for name in ("images", "image_size", "image_seed"):
        known = trained_on.get(name)
        if getattr(config, name) == getattr(default, name) and known is not None:
            kept[name] = known
    return dataclasses.replace(config, **kept)


def _splits_of(network: GlanceFocusNetwork, config: ClassifierConfig) -> dict[str, ImageSet]:
    """The splits that stage 3 goes on with, as every other command opens them for its network."""
    options = ImageOptions(
        images=config.images,
        image_size=config.image_size,
        image_seed=config.image_seed,
        **values_of(config, ReadingOptions),
    )
    return {split: options.open(network, split) for split in SPLITS}


def _build(config: ClassifierConfig, images: ImageSet) -> GlanceFocusNetwork:
    network = GlanceFocusNetwork.build(
        encoder=config.encoder,
        patch_size=config.patch_size,
        num_classes=images.num_classes,
        focus_steps=config.focus_steps,
        classifier=config.classifier,
        memory_size=config.memory_size,
        glance_logits=config.glance_logits,
        weights=config.weights,
        class_names=images.class_names,
        metadata={"image_size": image_side(images)},
    )
    if config.baseline is not None:
        _begin_with(network, config, config.baseline)
    return network


def _begin_with(network: GlanceFocusNetwork, config: ClassifierConfig, baseline: Path) -> None:
    """Give the encoders the weights of static networks, none of which saw what is held out here."""
    by_resolution = {static.config.resolution: static for static in load_static_networks(baseline)}
    if network.patch_size not in by_resolution:
        raise ValueError(
            f"{baseline} holds static networks of {', '.join(map(str, by_resolution))} pixels and "
            f"none of the patch size, {network.patch_size}; train one with --resolutions"
        )
    for static in by_resolution.values():
        check_split(static.config.metadata, config.images, config.image_seed)
    glance, full = by_resolution[network.patch_size], by_resolution[max(by_resolution)]
    load_tensors(network.global_encoder, glance.encoder.state_dict(), baseline)
    load_tensors(network.local_encoder, full.encoder.state_dict(), baseline)


def _origin(config: ClassifierConfig, *, in_memory: bool) -> dict[str, Any]:
    """Where the weights come from."""
    origin = {
        "images": None if in_memory else config.images,
        "image_seed": config.image_seed,
        "seed": config.seed,
        "commit": git_commit(),
    }
    return origin | ({"policy": str(config.policy)} if config.policy else {})


def _finish(
    network: GlanceFocusNetwork,
    policy: Policy | None,
    sets: Mapping[str, ImageSet],
    config: ClassifierConfig,
) -> None:
    """Save the network, with its policy where it has one, and how good it is."""
    accuracy = _accuracies(network, policy, sets["test"])
    network.config.metadata["test_accuracy"] = accuracy
    results = {"images": len(sets["test"]), "accuracy": accuracy}
    if policy is None:
        network.save(config.run)
    else:
        gfnet = assemble(network, policy, sets["val"])
        gfnet.save(config.run)
        results["multiply_adds"] = gfnet.multiply_adds
    close_run(config.run, results)


def _accuracies(
    network: GlanceFocusNetwork, policy: Policy | None, images: ImageSet
) -> dict[str, list[float]]:
    """Accuracy per step, glance first, with random patches and, if there are, better ones."""
    policies: dict[str, Policy] = {"random": RandomPolicy()}
    if policy is not None:
        policies[getattr(policy, "name", "policy")] = policy
    if images.boxes is not None:
        policies["target"] = TargetPolicy()
    return {
        name: evaluate_policy(network, each, images).accuracy.round(6).tolist()
        for name, each in policies.items()
    }
