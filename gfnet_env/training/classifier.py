"""Stages 1 and 3: train encoders and classifier on random windows or on a learned policy's."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.files import is_file, load_tensors
from gfnet_env.images import Batch, ImageSet, check_splits
from gfnet_env.inference import EarlyExitGFNet, assemble
from gfnet_env.matching import check_fit, check_split
from gfnet_env.models import GFNetState, GlanceFocusNetwork, load_static_networks
from gfnet_env.planning import Plan
from gfnet_env.policies import Context, HeatPolicy, Policy, RandomPolicy, TargetPolicy
from gfnet_env.rollout import begin, replay, rollout
from gfnet_env.runs import check_run
from gfnet_env.settings import Flat
from gfnet_env.training.config import (
    DEFAULTS,
    ClassifierSchedule,
    NetworkOptions,
    TrainingConfig,
    check_classes_differ,
    open_splits,
)
from gfnet_env.training.loop import OnValidation, Task, fit, open_run, plan_fit
from gfnet_env.training.loss import cross_entropies
from gfnet_env.training.mining import MinedWindows, Miner
from gfnet_env.training.optimisation import frozen_parts
from gfnet_env.training.patches import TrainingPatches
from gfnet_env.training.processes import Processes, Shares, join_processes

# Settings of the network; stage 3 takes them over from the network that it continues.
_OF_THE_NETWORK = (
    *("encoder", "patch_size", "focus_steps", "aspect"),
    *("glance_size", "glance_encoder", "where_scales"),
    *("classifier", "memory_size", "glance_logits"),
)
# Settings that stage 3 takes over from that network's training data, unless they are given.
_OF_ITS_IMAGES = ("images", "image_size", "image_seed", "fit")


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """What to train, on which images, and how."""

    policy: Path | None = None
    """For stage 3: run folder of train_policy, whose network is trained on the looks of its
    policy."""
    network: Flat[NetworkOptions] = field(default_factory=NetworkOptions)
    schedule: Flat[ClassifierSchedule] = field(default_factory=ClassifierSchedule)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.given()
        for name in ("weights", "baseline", "object_share"):
            if self.policy is not None and given.get(name):
                raise ValueError(f"stage 3 trains the network of its policy; leave out {name}")
        if given.get("windows") == "mined" and self.policy is not None:
            raise ValueError("stage 3 looks where its policy does; leave out windows")
        mines = given.get("windows") == "mined"
        # The maps and scales of stage 3 are its network's.
        others = ("object_share",) if mines else ("where_loss", "where_scales")
        for name in others if self.policy is None else ("where_loss",):
            # What was resolved holds the defaults.
            if given.get(name) not in (None, DEFAULTS[name]):
                raise ValueError(
                    f"{name} changes nothing without windows={'random' if mines else 'mined'}; "
                    f"leave {name} out"
                )


@dataclass(frozen=True)
class ClassifierResults:
    """Results of a trained network.

    Attributes:
        images: Number of test images.
        accuracy: Accuracy on the test split after each step, glance first, by the policy that
            looks: ``random``, ``heat``, ``learned`` or ``target``.
        multiply_adds: Multiply-adds of an image that exits at each step, if there is a policy.
    """

    images: int
    accuracy: Mapping[str, tuple[float, ...]]
    multiply_adds: tuple[int, ...] | None = None


def train_classifier(
    config: ClassifierConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    on_validation: OnValidation | None = None,
) -> GlanceFocusNetwork:
    """Train a glance-and-focus network and save it, with its accuracies, into the run folder.

    Stage 1 trains a new network on random windows, or on mined ones; a network with a where-map
    then comes with the policy ``heat``, as an assembled network. Stage 3 trains the network of a
    run of ``train_policy`` on its policy's windows; the policy stays as it is (GFNet, section 3.3),
    and the run folder then holds the assembled network with new thresholds.

    Args:
        config: What to train and how.
        image_sets: See ``train_baselines``.
        on_validation: Called after each epoch with the steps so far and the accuracy on ``val``
            after the last look; an exception from it ends the training.

    Returns:
        The network, in evaluation mode.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        FileNotFoundError: A folder is missing.
        ValueError: A name or a value is wrong, the run to resume was begun with other values or has
            a damaged checkpoint, or the loss is no longer finite.
    """
    check_run(config.run, config.control)
    processes = join_processes(config.control.device)
    stage, shares, task = _prepare(config, image_sets, processes)
    inputs = [config.policy, config.network.baseline]
    with open_run(stage.config, processes, inputs=inputs) as run:
        if run.complete:
            return GlanceFocusNetwork.load(run.folder).to(processes.device)
        fit(task, stage.sets["train"], stage.config, shares, run, on_validation)
        if processes.is_main:
            run.finish(stage.save())
    return stage.network


def check_classifier(
    config: ClassifierConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    begun: EarlyExitGFNet | None = None,
) -> GlanceFocusNetwork:
    """Build everything that ``train_classifier`` needs, and write nothing; raises like it.

    Args:
        config: What to train and how.
        image_sets: See ``train_classifier``.
        begun: For stage 3, the network and the policy in place of those in ``config.policy``.

    Returns:
        The network, not yet trained.
    """
    stage, *_ = _prepare(config, image_sets, join_processes(config.control.device), begun)
    return stage.network.eval()


def plan_classifier(
    config: ClassifierConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    begun: EarlyExitGFNet | None = None,
) -> Plan:
    """What ``train_classifier`` would do and cost; see ``check_classifier`` for the arguments."""
    processes = join_processes(config.control.device)
    stage, shares, task = _prepare(config, image_sets, processes, begun)
    forward = sum(stage.network.multiply_adds())
    return plan_fit(task, stage.sets, stage.config, shares, forward)


def _prepare(
    config: ClassifierConfig,
    image_sets: Mapping[str, ImageSet] | None,
    processes: Processes,
    begun: EarlyExitGFNet | None = None,
) -> tuple["_Stage", Shares, Task]:
    """Make a stage, and check everything that could be wrong with it."""
    if config.policy is None:
        stage = _stage_1(config, image_sets)
    else:
        begun = begun or EarlyExitGFNet.load(config.policy)
        stage = _stage_3(config, image_sets, begun)
    shares = Shares.of(len(stage.sets["train"]), stage.config, processes)
    return stage, shares, stage.task(processes)


@dataclass(frozen=True)
class _Stage:
    """A network and the images that it is trained on.

    Attributes:
        config: The resolved configuration.
        network: What is trained.
        policy: Decides where to look in stage 3; None in stage 1.
        sets: The three splits.
    """

    config: ClassifierConfig
    network: GlanceFocusNetwork
    policy: Policy | None
    sets: Mapping[str, ImageSet]

    def task(self, processes: Processes) -> Task:
        """Move the network to the device, and make the task of training it.

        Raises:
            ValueError: The images do not fit, or a part to freeze is missing.
        """
        options, schedule, encoders = self.config.options, self.config.schedule, self.encoders
        processes.place(self.network)
        if isinstance(self.policy, nn.Module):
            self.policy.to(processes.device)
        for images in self.sets.values():
            check_fit(self.network, images)
        whole = encoders[:1] if schedule.freeze_global_encoder else ()
        heads = [self.network.classifier, self.network.bridge, self.network.where]
        miner = self._miner()
        return Task(
            title="stage 1" if self.policy is None else "stage 3",
            model=self.network,
            encoders=encoders,
            classifiers=[part for part in heads if part is not None],
            frozen=[*whole, *frozen_parts(encoders, options.frozen)],
            objective=LookObjective(self.network, self.pick, schedule, miner),
            validate=self.validate,
            validation_labels=self.sets["val"].labels,
            memory=miner,
        )

    def _miner(self) -> Miner | None:
        """The miner that finds windows, if they are mined."""
        if self.config.schedule.windows != "mined":
            return None
        if self.network.where is None:
            raise ValueError("mined windows need a where-map; leave where_scales out, or give some")
        options = self.config.options
        self.network.where.expect(self.sets["train"].labels)
        miner = Miner(self.network, seed=options.seed, precision=options.precision)
        return miner.to(self.network.device)

    @property
    def encoders(self) -> tuple[nn.Module, nn.Module]:
        """The encoder of glances, and the encoder of windows."""
        return self.network.global_encoder, self.network.local_encoder

    @property
    def own_policy(self) -> Policy | None:
        """The policy that belongs to the network so far."""
        if self.policy is None and self.network.where is not None:
            return HeatPolicy()
        return self.policy

    def pick(self, epoch: int) -> Policy:
        """The policy of an epoch."""
        if self.policy is not None:
            return self.policy
        share = self.config.network.object_share
        return TrainingPatches(self.config.options.seed, epoch, share)

    def validate(self, indices: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
        """Whether the network is right about validation images after each step."""
        policy = self.own_policy or RandomPolicy()
        record = evaluate_policy(self.network, policy, self.sets["val"], indices=indices)
        return {f"step_{step}": right for step, right in enumerate(record.correct.T)}

    def save(self) -> ClassifierResults:
        """Save the network, with its policy in stage 3, and return its results."""
        network, folder, images = self.network, self.config.run, self.sets["test"]
        accuracy = self._accuracies(images)
        network.trained_on = dataclasses.replace(network.trained_on, accuracy=accuracy)
        if self.own_policy is None:
            network.save(folder)
            return ClassifierResults(len(images), accuracy)
        gfnet = assemble(network, self.own_policy, self.sets["val"])
        gfnet.save(folder)
        return ClassifierResults(len(images), accuracy, tuple(gfnet.multiply_adds))

    def _accuracies(self, images: ImageSet) -> dict[str, tuple[float, ...]]:
        """Accuracies with random looks and, where possible, better ones."""
        policies: dict[str, Policy] = {"random": RandomPolicy()}
        if self.network.where is not None:
            policies["heat"] = HeatPolicy()
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
        pick: Maps an epoch to its policy, which is not trained.
        schedule: Gives the weights of the parts of the loss.
        miner: Finds the windows instead, if they are mined.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        pick: Callable[[int], Policy],
        schedule: ClassifierSchedule,
        miner: Miner | None = None,
    ) -> None:
        super().__init__()
        self.network, self.miner = network, miner
        self._pick, self._schedule = pick, schedule

    def forward(self, batch: Batch, images: ImageSet, epoch: int) -> Tensor:
        """The loss of each image, (B,): the mean over its steps (GFNet, section 3.3).

        An image has fewer steps if the policy stops. If the encoder's head gives the glance's
        logits, they count once.
        """
        features = LiveFeatures(self.network, images)
        mined = None if self.miner is None else MinedWindows(self.miner, epoch)
        if mined is None:
            context = Context(features, batch.indices, batch.labels, batch.boxes)
            taken = rollout(features, self._pick(epoch), context)
        else:
            overviews = features.overview(batch.indices)
            begun = begin(features, batch.indices, overviews)
            looks = mined.find(begun, overviews.map, features, batch)
            taken = replay(features, batch.indices, begun, looks)
        losses: list[Tensor] = []
        steps = torch.zeros_like(batch.labels)
        states: list[GFNetState] = []
        for step in taken:
            labels = batch.labels[step.rows]
            assert isinstance(step.state, GFNetState)
            states.append(step.state)
            loss = self._cross_entropies(step.state.logits, labels)
            own = self.network.own_logits(step.state)
            if own is not None:
                loss = loss + self._schedule.encoder_loss * self._cross_entropies(own, labels)
            losses.append(loss.new_zeros(len(steps)).index_put((step.rows,), loss))
            steps[step.rows] += 1
        mean = torch.stack(losses).sum(dim=0) / steps
        if mined is None:
            return mean
        mined.miner.observe(cross_entropies(states[-1].logits, batch.labels))
        return mean + self._schedule.where_loss * mined.where_loss(states[0])

    def _cross_entropies(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropies(logits, labels, self._schedule.label_smoothing)


def _stage_1(config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None) -> _Stage:
    """Make the stage for a new network."""
    mines = config.schedule.windows == "mined"
    config = config.resolved({"where_scales": (1.0,)} if mines else {})
    sets = check_splits(open_splits(config) if image_sets is None else image_sets)
    torch.manual_seed(config.options.seed)
    images = sets["train"]
    check_classes_differ(images)
    network = GlanceFocusNetwork.build(
        **{name: value for name, value in config.items() if name in _OF_THE_NETWORK},
        num_classes=images.num_classes,
        weights=config.options.weights,
        class_names=images.class_names,
        trained_on=config.trained_on(images, in_memory=image_sets is not None),
    )
    if config.network.baseline is not None:
        _begin_with(network, config, config.network.baseline)
    return _Stage(config, network, None, sets)


def _stage_3(
    config: ClassifierConfig, image_sets: Mapping[str, ImageSet] | None, begun: EarlyExitGFNet
) -> _Stage:
    """Make the stage for the network of a policy's run, by default on its own training images."""
    network = begun.model
    assert isinstance(network, GlanceFocusNetwork)
    kept = {name: getattr(network.config, name) for name in _OF_THE_NETWORK}
    for name, value in config.given().items():
        if value != kept.get(name, value):
            raise ValueError(
                f"{name} is {kept[name]} in {config.policy}, not {value}; stage 3 trains that "
                "network: leave it out"
            )
    known = {name: getattr(network.trained_on, name) for name in _OF_ITS_IMAGES}
    config = config.resolved(kept, known)
    # They belong to the weights before this training.
    network.set_temperatures(())
    sets = config.images.open_splits(network, image_sets)
    now = config.trained_on(sets["train"], in_memory=image_sets is not None)
    network.trained_on = dataclasses.replace(
        now, crop=network.trained_on.crop, policy=str(config.policy)
    )
    return _Stage(config, network, begun.policy, sets)


def _begin_with(network: GlanceFocusNetwork, config: ClassifierConfig, baseline: Path) -> None:
    """Give a new network the weights of a run, if its networks did not see held-out images."""
    spec, _, seed = config.chosen_images
    if is_file(baseline / "network.json"):
        begun = GlanceFocusNetwork.load(baseline)
        check_split(begun.trained_on, spec, seed)
        _take_over(network, begun, baseline)
        return
    by_resolution = {static.config.resolution: static for static in load_static_networks(baseline)}
    if network.patch_size not in by_resolution:
        raise ValueError(
            f"{baseline} holds static networks of {', '.join(map(str, by_resolution))} pixels and "
            f"none of the patch size, {network.patch_size}; train one with --resolutions"
        )
    for static in by_resolution.values():
        check_split(static.trained_on, spec, seed)
    glance, focus = by_resolution[network.patch_size], by_resolution[max(by_resolution)]
    load_tensors(network.global_encoder, glance.encoder.state_dict(), baseline)
    load_tensors(network.local_encoder, focus.encoder.state_dict(), baseline)


def _take_over(network: GlanceFocusNetwork, begun: GlanceFocusNetwork, folder: Path) -> None:
    """Give a network the encoders of another, without their heads, and its where-map."""
    for name in ("global_encoder", "local_encoder"):
        own, tensors = network.get_submodule(name), begun.get_submodule(name).state_dict()
        heads = {key: value for key, value in own.state_dict().items() if key.startswith("head.")}
        load_tensors(own, tensors | heads, folder)
    if network.where is not None and begun.where is not None:
        load_tensors(network.where.head, begun.where.head.state_dict(), folder)
