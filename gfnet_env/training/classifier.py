"""Stages 1 and 3: encoders and classifier, on random windows or on those of a learned policy."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.files import load_tensors
from gfnet_env.images import SPLITS, Batch, ImageSet
from gfnet_env.inference import EarlyExitGFNet, assemble
from gfnet_env.matching import check_fit, check_split
from gfnet_env.models import GFNetState, GlanceFocusNetwork, load_static_networks
from gfnet_env.policies import Context, Policy, RandomPolicy, TargetPolicy
from gfnet_env.rollout import rollout
from gfnet_env.settings import Flat
from gfnet_env.training.config import (
    ClassifierSchedule,
    NetworkOptions,
    TrainingConfig,
    open_splits,
)
from gfnet_env.training.loop import Task, fit, open_run, show_progress
from gfnet_env.training.optimisation import check_frozen
from gfnet_env.training.patches import TrainingPatches
from gfnet_env.training.processes import Processes, Shares, join_processes

# What stage 3 takes over from the network that it goes on with.
_OF_THE_NETWORK = (
    *("encoder", "patch_size", "focus_steps", "aspect"),
    *("classifier", "memory_size", "glance_logits"),
)
# What it takes over from what that network was trained on, where nothing else is given.
_OF_ITS_IMAGES = ("images", "image_size", "image_seed", "fit")


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """What to train, on what, and how."""

    policy: Path | None = None
    """Stage 3: run folder of train_policy, whose network is trained on its policy's looks."""
    network: Flat[NetworkOptions] = field(default_factory=NetworkOptions)
    schedule: Flat[ClassifierSchedule] = field(default_factory=ClassifierSchedule)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.given()
        for name in ("weights", "baseline", "object_share"):
            if self.policy is not None and given.get(name):
                raise ValueError(
                    f"stage 3 goes on with the network of its policy; leave out {name}"
                )


@dataclass(frozen=True)
class ClassifierResults:
    """How good a trained network is.

    Attributes:
        images: Of the test split.
        accuracy: Share of them that is right after each step, glance first, by whose looks:
            ``random``, ``learned`` or ``target``.
        multiply_adds: Of an image that exits at each step, after stage 3.
    """

    images: int
    accuracy: Mapping[str, tuple[float, ...]]
    multiply_adds: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None}


def train_classifier(
    config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> GlanceFocusNetwork:
    """Train a glance-and-focus network and save it, with its accuracies, into the run folder.

    Stage 1 trains a new network on random windows, stage 3 that of a run of ``train_policy`` on
    the windows that its policy looks at; the policy stays as it is (GFNet, section 3.3). After
    stage 3 the run folder holds the assembled network, its thresholds solved again.

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
    processes = join_processes(config.control.device)
    stage = _stage_1(config, image_sets) if config.policy is None else _stage_3(config, image_sets)
    shares = stage.shared_by(processes)
    inputs = [config.policy, config.network.baseline]
    with open_run(stage.config, processes, inputs=inputs) as run:
        if run.complete:
            return GlanceFocusNetwork.load(run.folder).to(processes.device)
        with show_progress(processes) as progress:
            fit(stage.task(), stage.sets["train"], stage.config, shares, run, progress)
        if processes.is_main:
            run.finish(stage.save())
    return stage.network


@dataclass(frozen=True)
class _Stage:
    """A training of a network.

    Attributes:
        config: Resolved.
        network: What is trained.
        policy: Whose looks it is trained on after stage 2; None in stage 1.
        sets: The three splits.
    """

    config: ClassifierConfig
    network: GlanceFocusNetwork
    policy: Policy | None
    sets: Mapping[str, ImageSet]

    def shared_by(self, processes: Processes) -> Shares:
        """Bring it to the device and check what could be wrong, before anything is written.

        Raises:
            ValueError: The batch cannot be shared, the images do not fit, or a part to freeze is
                missing.
        """
        config, images = self.config, self.sets["train"]
        size, parts = config.schedule.batch_size, config.options.accumulation
        shares = Shares(len(images), size, parts, processes)
        processes.place(self.network)
        if isinstance(self.policy, nn.Module):
            self.policy.to(processes.device)
        for each in self.sets.values():
            check_fit(self.network, each)
        check_frozen(_encoders(self.network), config.options.frozen)
        return shares

    def task(self) -> Task:
        """What the training loop needs to know."""
        config, encoders = self.config, _encoders(self.network)
        names = config.options.frozen
        frozen = [encoder.get_submodule(name) for encoder in encoders for name in names]
        if config.schedule.freeze_global_encoder:
            frozen = [encoders[0], *frozen]
        return Task(
            title="stage 1" if self.policy is None else "stage 3",
            model=self.network,
            encoders=encoders,
            classifiers=(self.network.classifier,),
            frozen=frozen,
            objective=LookObjective(self.network, self.pick, config.schedule.encoder_loss),
            validate=self.validate,
            validation_images=len(self.sets["val"]),
        )

    def pick(self, epoch: int) -> Policy:
        """Whose looks the network is trained on in an epoch."""
        if self.policy is not None:
            return self.policy
        share = self.config.network.object_share
        return TrainingPatches(self.config.options.seed, epoch, share)

    def validate(self, indices: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
        """Whether the network is right about some validation images after each step."""
        policy = self.policy or RandomPolicy()
        record = evaluate_policy(self.network, policy, self.sets["val"], indices=indices)
        return {f"step_{step}": right for step, right in enumerate(record.correct.T)}

    def save(self) -> ClassifierResults:
        """Save the network, with its policy where it has one; how good it is."""
        network, folder, images = self.network, self.config.run, self.sets["test"]
        accuracy = self._accuracies(images)
        network.trained_on = dataclasses.replace(network.trained_on, accuracy=accuracy)
        if self.policy is None:
            network.save(folder)
            return ClassifierResults(len(images), accuracy)
        gfnet = assemble(network, self.policy, self.sets["val"])
        gfnet.save(folder)
        return ClassifierResults(len(images), accuracy, tuple(gfnet.multiply_adds))

    def _accuracies(self, images: ImageSet) -> dict[str, tuple[float, ...]]:
        """With random looks and, if there are, better ones."""
        policies: dict[str, Policy] = {"random": RandomPolicy()}
        if self.policy is not None:
            policies["learned"] = self.policy
        if images.boxes is not None:
            policies["target"] = TargetPolicy()
        return {
            name: tuple(evaluate_policy(self.network, each, images).accuracy.round(6).tolist())
            for name, each in policies.items()
        }


class LookObjective(nn.Module):
    """The loss of a network over all steps, on the looks of a policy.

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

    def forward(self, batch: Batch, images: ImageSet, epoch: int) -> Tensor:
        """The loss of each image, (B,): the mean over its steps (GFNet, section 3.3).

        An image that the policy stops looking at has fewer. Where the glance's logits are those of
        the encoder's head, they count once.
        """
        features = LiveFeatures(self.network, images)
        context = Context(features, batch.indices, batch.labels, batch.boxes)
        losses: list[Tensor] = []
        steps = torch.zeros_like(batch.labels)
        for step in rollout(features, self._pick(epoch), context):
            labels = batch.labels[step.rows]
            assert isinstance(step.state, GFNetState)
            loss = _cross_entropies(step.state.logits, labels)
            own = self.network.own_logits(step.state)
            if own is not None:
                loss = loss + self._encoder_loss * _cross_entropies(own, labels)
            losses.append(loss.new_zeros(len(steps)).index_put((step.rows,), loss))
            steps[step.rows] += 1
        return torch.stack(losses).sum(dim=0) / steps


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image, (B,), whatever the precision of the logits (B, K)."""
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def _stage_1(config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None) -> _Stage:
    """A new network."""
    config = config.resolved()
    sets = image_sets or open_splits(config)
    torch.manual_seed(config.options.seed)
    images, options = sets["train"], config.network
    network = GlanceFocusNetwork.build(
        encoder=config.options.encoder,
        patch_size=options.patch_size,
        num_classes=images.num_classes,
        focus_steps=options.focus_steps,
        classifier=options.classifier,
        memory_size=options.memory_size,
        glance_logits=options.glance_logits,
        aspect=config.options.aspect,
        weights=config.options.weights,
        class_names=images.class_names,
        trained_on=config.trained_on(images, in_memory=image_sets is not None),
    )
    if options.baseline is not None:
        _begin_with(network, config, options.baseline)
    return _Stage(config, network, None, sets)


def _stage_3(config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None) -> _Stage:
    """The network of a policy's run, by default on the images that it was trained on.

    Raises:
        ValueError: The configuration has something else than the network.
    """
    assert config.policy is not None
    begun = EarlyExitGFNet.load(config.policy)
    network = begun.model
    assert isinstance(network, GlanceFocusNetwork)
    kept = {name: getattr(network.config, name) for name in _OF_THE_NETWORK}
    for name, value in config.given().items():
        if value != kept.get(name, value):
            raise ValueError(
                f"{name} is {kept[name]} in {config.policy}, not {value}; stage 3 goes on with its "
                "network: leave it out"
            )
    known = {name: getattr(network.trained_on, name) for name in _OF_ITS_IMAGES}
    config = config.resolved(kept, known)
    sets = image_sets or {split: config.images.open(network, split) for split in SPLITS}
    now = config.trained_on(sets["train"], in_memory=image_sets is not None)
    network.trained_on = dataclasses.replace(
        now, crop=network.trained_on.crop, policy=str(config.policy)
    )
    return _Stage(config, network, begun.policy, sets)


def _begin_with(network: GlanceFocusNetwork, config: ClassifierConfig, baseline: Path) -> None:
    """Give the encoders the weights of static networks, none of which saw what is held out here."""
    by_resolution = {static.config.resolution: static for static in load_static_networks(baseline)}
    if network.patch_size not in by_resolution:
        raise ValueError(
            f"{baseline} holds static networks of {', '.join(map(str, by_resolution))} pixels and "
            f"none of the patch size, {network.patch_size}; train one with --resolutions"
        )
    spec, _, seed = config.chosen_images
    for static in by_resolution.values():
        check_split(static.trained_on, spec, seed)
    resolutions = (network.patch_size, max(by_resolution))
    for encoder, resolution in zip(_encoders(network), resolutions, strict=True):
        load_tensors(encoder, by_resolution[resolution].encoder.state_dict(), baseline)


def _encoders(network: GlanceFocusNetwork) -> tuple[nn.Module, nn.Module]:
    """That of glances, and that of looks."""
    return network.get_submodule("global_encoder"), network.get_submodule("local_encoder")
