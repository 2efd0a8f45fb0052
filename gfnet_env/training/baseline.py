"""Static baselines: the encoder alone, on whole images, at several resolutions."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.evaluation import evaluate_static
from gfnet_env.images import Batch, ImageSet
from gfnet_env.matching import check_classes
from gfnet_env.models import StaticConfig, StaticNetwork, TrainingData, static_multiply_adds
from gfnet_env.runs import Run
from gfnet_env.settings import AtLeast
from gfnet_env.training.config import TrainingConfig, open_splits
from gfnet_env.training.loop import Task, fit, open_run, show_progress
from gfnet_env.training.optimisation import check_frozen
from gfnet_env.training.processes import Shares, join_processes


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """What to train, on what, and how; leave everything as it was for stage 1 to be fair."""

    resolutions: Annotated[tuple[int, ...], AtLeast(1)] = ()
    """Sides that whole images are resized to, one network each, in pixels; by default a quarter,
    a half, three quarters and the whole of the images' shorter side."""


@dataclass(frozen=True)
class StaticResult:
    """How good a static network is.

    Attributes:
        resolution: Of the network.
        accuracy: Share of the test images that is right.
        multiply_adds: Of one image.
    """

    resolution: int
    accuracy: float
    multiply_adds: int


@dataclass(frozen=True)
class BaselineResults:
    """How good all are.

    Attributes:
        images: Of the test split.
        static: By rising resolution.
    """

    images: int
    static: Sequence[StaticResult]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def train_baselines(
    config: BaselineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> dict[int, StaticNetwork]:
    """Train one network for each resolution and save it into ``RUN/RESOLUTION``.

    Args:
        config: What to train and how.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The networks by resolution, in evaluation mode.

    Raises:
        FileExistsError: The run folder exists, and overwriting was not asked for.
        ValueError: A name or a value is wrong, a resolution is above that of the images or too low
            for the encoder, or the loss is no longer finite.
    """
    config = config.resolved()
    processes = join_processes(config.control.device)
    sets = image_sets or open_splits(config)
    size, parts = config.schedule.batch_size, config.options.accumulation
    shares = Shares(len(sets["train"]), size, parts, processes)
    trained_on = config.trained_on(sets["train"], in_memory=image_sets is not None)
    networks = {
        resolution: _build(config, resolution, sets["train"], trained_on)
        for resolution in _resolutions(config, sets["train"])
    }
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
            _train(network, sets, config, shares, folders[resolution])
        if processes.is_main:
            static = [_judge(network, sets["test"]) for network in networks.values()]
            run.finish(BaselineResults(len(sets["test"]), static))
    return networks


def _train(
    network: StaticNetwork,
    sets: Mapping[str, ImageSet],
    config: BaselineConfig,
    shares: Shares,
    folder: Path,
) -> None:
    """Train a network and save it, unless that was done before."""
    part = Run(folder)
    if (folder / "static.json").is_file():
        network.load_state_dict(StaticNetwork.load(folder).state_dict())
        network.eval()
        return
    torch.manual_seed(config.options.seed)
    with show_progress(shares.processes) as progress:
        fit(_task(network, sets["val"], config), sets["train"], config, shares, part, progress)
    if shares.processes.is_main:
        network.save(folder)
        part.checkpoints.clear()


def _judge(network: StaticNetwork, images: ImageSet) -> StaticResult:
    accuracy = round(float(evaluate_static(network, images).mean()), 6)
    return StaticResult(network.config.resolution, accuracy, static_multiply_adds(network))


def _resolutions(config: BaselineConfig, images: ImageSet) -> list[int]:
    """Rising, and none above what the smallest of the images has."""
    side = int(images.sizes(np.arange(len(images))).min())
    resolutions = sorted(config.resolutions or {round(part * side / 4) for part in (1, 2, 3, 4)})
    if resolutions[-1] > side:
        raise ValueError(
            f"a resolution of {resolutions[-1]} is above that of the images, {side}: enlarging "
            "them costs and shows nothing; leave it out"
        )
    return resolutions


def _build(
    config: BaselineConfig, resolution: int, images: ImageSet, trained_on: TrainingData
) -> StaticNetwork:
    """A new network, seeded so that it is the same whatever is trained beside it."""
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
    try:
        static_multiply_adds(network)
    except RuntimeError as error:
        raise ValueError(
            f"encoder {static.encoder!r} does not take {resolution}×{resolution} images ({error}); "
            "choose other resolutions"
        ) from error
    check_frozen([network.encoder], config.options.frozen)
    return network


class StaticObjective(nn.Module):
    """The cross-entropy of a static network."""

    def __init__(self, network: StaticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch, images: ImageSet, epoch: int) -> Tensor:
        """The loss of each image, (B,)."""
        views = images.overview(batch.indices, self.network.view).to(self.network.device)
        logits = self.network(views).float()
        return functional.cross_entropy(logits, batch.labels, reduction="none")


def _task(network: StaticNetwork, images: ImageSet, config: BaselineConfig) -> Task:
    return Task(
        title=f"{network.config.resolution}×{network.config.resolution}",
        model=network,
        encoders=(network.encoder,),
        classifiers=(network.encoder.head_module(),),
        frozen=[network.encoder.get_submodule(name) for name in config.options.frozen],
        objective=StaticObjective(network),
        validate=lambda indices: {"static": evaluate_static(network, images, indices=indices)},
        validation_images=len(images),
    )
