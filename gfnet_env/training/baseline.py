"""Train static baselines: the encoder alone, on whole images, at several resolutions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env.encoders import example_features
from gfnet_env.evaluation import evaluate_static
from gfnet_env.files import is_file
from gfnet_env.images import Batch, ImageSet, check_splits
from gfnet_env.matching import check_classes
from gfnet_env.models import StaticConfig, StaticNetwork, TrainingData, static_multiply_adds
from gfnet_env.planning import Plan, count_images
from gfnet_env.runs import Run, check_run
from gfnet_env.settings import AtLeast
from gfnet_env.training.config import TrainingConfig, check_classes_differ, open_splits
from gfnet_env.training.loop import Task, fit, open_run, plan_fit
from gfnet_env.training.loss import cross_entropies
from gfnet_env.training.optimisation import frozen_parts
from gfnet_env.training.processes import Shares, join_processes


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """What to train, on which images, and how; for a fair comparison, train as in stage 1."""

    resolutions: Annotated[tuple[int, ...], AtLeast(1)] = ()
    """Sides that whole images are resized to, one network each, in pixels; by default a quarter,
    a half, three quarters and the whole of the images' shorter side."""


@dataclass(frozen=True)
class StaticResult:
    """Accuracy and cost of a static network.

    Attributes:
        resolution: Resolution in pixels.
        accuracy: Accuracy on the test split.
        multiply_adds: Multiply-adds of one image.
    """

    resolution: int
    accuracy: float
    multiply_adds: int


@dataclass(frozen=True)
class BaselineResults:
    """Results of all static networks.

    Attributes:
        images: Number of test images.
        static: Results by rising resolution.
    """

    images: int
    static: Sequence[StaticResult]


def train_baselines(
    config: BaselineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> dict[int, StaticNetwork]:
    """Train one network for each resolution and save it into ``RUN/RESOLUTION``.

    Args:
        config: What to train and how.
        image_sets: Splits to use (``train``, ``val``, ``test``) instead of ``config.images``.

    Returns:
        The networks by resolution, in evaluation mode.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        ValueError: A name or a value is wrong, a resolution is above the images' or too low for the
            encoder, or the loss is no longer finite.
    """
    config = config.resolved()
    check_run(config.run, config.control)
    processes = join_processes(config.control.device)
    sets = check_splits(open_splits(config) if image_sets is None else image_sets)
    shares = Shares.of(len(sets["train"]), config, processes)
    check_classes_differ(sets["train"])
    networks = _build_all(config, sets["train"], in_memory=image_sets is not None)
    for network in networks.values():
        processes.place(network)
        for images in sets.values():
            check_classes(network.config, images)
    folders = {resolution: config.run / str(resolution) for resolution in networks}
    with open_run(config, processes, parts=folders.values()) as run:
        if run.complete:
            loaded = {number: StaticNetwork.load(folder) for number, folder in folders.items()}
            return {number: network.to(processes.device) for number, network in loaded.items()}
        for resolution, network in networks.items():
            _train(network, sets, config, shares, Run(folders[resolution]))
        if processes.is_main:
            static = [_judge(network, sets["test"]) for network in networks.values()]
            run.finish(BaselineResults(len(sets["test"]), static))
    return networks


def plan_baselines(
    config: BaselineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> Plan:
    """What ``train_baselines`` would do and cost; see there for the arguments."""
    config = config.resolved()
    processes = join_processes(config.control.device)
    sets = check_splits(open_splits(config) if image_sets is None else image_sets)
    shares = Shares.of(len(sets["train"]), config, processes)
    check_classes_differ(sets["train"])
    figures, total = {"images": count_images(sets)}, 0.0
    networks = _build_all(config, sets["train"], in_memory=image_sets is not None)
    for resolution, network in networks.items():
        processes.place(network)
        check_classes(network.config, sets["train"])
        forward = static_multiply_adds(network)
        plan = plan_fit(_task(network, sets, config), sets, config, shares, forward)
        total += plan.seconds or 0.0
        figures |= {
            f"{name}, {resolution}×{resolution}": text
            for name, text in plan.figures.items()
            if name not in figures
        }
    return Plan(config, figures, total)


def _build_all(
    config: BaselineConfig, images: ImageSet, *, in_memory: bool
) -> dict[int, StaticNetwork]:
    """A new network for each resolution, from the lowest to the highest."""
    side = int(images.sizes(np.arange(len(images))).min())
    resolutions = sorted(config.resolutions or {round(part * side / 4) for part in (1, 2, 3, 4)})
    if resolutions[-1] > side:
        raise ValueError(
            f"a resolution of {resolutions[-1]} is above that of the images, {side}: enlarging "
            "them costs and shows nothing; leave it out"
        )
    trained_on = config.trained_on(images, in_memory=in_memory)
    return {number: _build(config, number, images, trained_on) for number in resolutions}


def _build(
    config: BaselineConfig, resolution: int, images: ImageSet, trained_on: TrainingData
) -> StaticNetwork:
    # Each network is seeded separately, so that it does not depend on the others.
    torch.manual_seed(config.options.seed)
    static = StaticConfig(
        encoder=config.options.encoder,
        resolution=resolution,
        num_classes=images.num_classes,
        aspect=config.options.aspect,
        class_names=images.class_names,
        trained_on=trained_on,
    )
    network = StaticNetwork(static, config.options.weights)
    example_features(network.encoder, resolution, static.num_classes, static.encoder)
    frozen_parts([network.encoder], config.options.frozen)
    return network


def _train(
    network: StaticNetwork,
    sets: Mapping[str, ImageSet],
    config: BaselineConfig,
    shares: Shares,
    part: Run,
) -> None:
    """Train a network and save it, unless it was saved before."""
    if is_file(part.folder / "static.json"):
        network.load_state_dict(StaticNetwork.load(part.folder).state_dict())
        network.eval()
        return
    torch.manual_seed(config.options.seed)
    fit(_task(network, sets, config), sets["train"], config, shares, part)
    if shares.processes.is_main:
        network.save(part.folder)
        part.checkpoints.clear()


def _task(network: StaticNetwork, sets: Mapping[str, ImageSet], config: BaselineConfig) -> Task:
    """The task of training a network."""
    return Task(
        title=f"{network.config.resolution}×{network.config.resolution}",
        model=network,
        encoders=(network.encoder,),
        classifiers=(network.encoder.head_module(),),
        frozen=frozen_parts([network.encoder], config.options.frozen),
        objective=StaticObjective(network, config.schedule.label_smoothing),
        validate=lambda indices: {"static": evaluate_static(network, sets["val"], indices=indices)},
        validation_labels=sets["val"].labels,
    )


def _judge(network: StaticNetwork, images: ImageSet) -> StaticResult:
    accuracy = round(float(evaluate_static(network, images).mean()), 6)
    return StaticResult(network.config.resolution, accuracy, static_multiply_adds(network))


class StaticObjective(nn.Module):
    """The cross-entropy of a static network, with smoothed labels."""

    def __init__(self, network: StaticNetwork, label_smoothing: float) -> None:
        super().__init__()
        self.network, self.label_smoothing = network, label_smoothing

    def forward(self, batch: Batch, images: ImageSet, epoch: int) -> Tensor:
        """The loss of each image, (B,)."""
        views = images.overview(batch.indices, self.network.view).to(self.network.device)
        return cross_entropies(self.network(views), batch.labels, self.label_smoothing)
