"""Static baselines: the encoder alone, on whole images, at several resolutions."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.data import Batch, ImageSet
from gfnet_env.inference.cost import static_multiply_adds
from gfnet_env.inference.evaluation import evaluate_static
from gfnet_env.matching import check_classes
from gfnet_env.perception import StaticConfig, StaticNetwork
from gfnet_env.runs import git_commit
from gfnet_env.training.config import TrainingConfig, image_side, open_splits
from gfnet_env.training.loop import Task, close_run, fit, open_run, show_progress
from gfnet_env.training.optimisation import check_frozen
from gfnet_env.training.processes import Shares, join_processes

# What says that a resolution is done.
_COMPLETE = "static.json"


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """What to train, on what, and how; leave everything as it was for stage 1 to be fair."""

    resolutions: tuple[int, ...] = ()
    """Sides that whole images are resized to, one network each, in pixels; by default a quarter,
    a half, three quarters and the whole of the images' shorter side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolutions and min(self.resolutions) < 1:
            raise ValueError(f"resolutions must be at least 1 pixel, not {self.resolutions}")


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
    processes = join_processes(config.device)
    sets = image_sets or open_splits(config)
    shares = Shares(len(sets["train"]), config.batch_size, config.accumulation, processes)
    networks = {}
    for resolution in _resolutions(config, sets["train"]):
        # Seeded anew, so that a resolution gives the same network whatever is trained beside it.
        torch.manual_seed(config.seed)
        source = None if image_sets else config.images
        network = _build(config, resolution, sets["train"], source)
        processes.place(network)
        check_frozen([network.encoder], config.frozen)
        for images in sets.values():
            check_classes(network.config, images)
        networks[resolution] = network
    run = config.run
    folders = {resolution: run / str(resolution) for resolution in networks}
    if open_run(config, processes, folders.values(), _COMPLETE):
        return {
            resolution: StaticNetwork.load(folder).to(processes.device)
            for resolution, folder in folders.items()
        }
    results = []
    with show_progress(processes) as progress:
        for resolution, network in networks.items():
            folder = folders[resolution]
            if config.resume and (folder / _COMPLETE).is_file():
                trained = StaticNetwork.load(folder)
                network.load_state_dict(trained.state_dict())
                network.eval()
            else:
                torch.manual_seed(config.seed)
                fit(
                    _task(network, sets["val"], config),
                    sets["train"],
                    config,
                    shares,
                    folder,
                    progress,
                )
            if not processes.is_main:
                continue
            network.save(folder)
            results.append(
                {
                    "resolution": resolution,
                    "accuracy": round(float(evaluate_static(network, sets["test"]).mean()), 6),
                    "multiply_adds": static_multiply_adds(network),
                }
            )
    if processes.is_main:
        close_run(run, {"images": len(sets["test"]), "static": results}, folders.values())
    return networks


def _resolutions(config: BaselineConfig, images: ImageSet) -> list[int]:
    """Rising, and none above what the images have."""
    side = min(images[[0]].shape[2:])
    resolutions = sorted(config.resolutions or {round(part * side / 4) for part in (1, 2, 3, 4)})
    if resolutions[-1] > side:
        raise ValueError(
            f"a resolution of {resolutions[-1]} is above that of the images, {side}: enlarging "
            "them costs and shows nothing; leave it out"
        )
    return resolutions


def _build(
    config: BaselineConfig, resolution: int, images: ImageSet, source: str | None
) -> StaticNetwork:
    network = StaticConfig(
        encoder=config.encoder,
        resolution=resolution,
        num_classes=images.num_classes,
        class_names=images.class_names,
        metadata={
            "images": source,
            "image_size": image_side(images),
            "image_seed": config.image_seed,
            "seed": config.seed,
            "commit": git_commit(),
        },
    )
    built = StaticNetwork(network, config.weights)
    try:
        static_multiply_adds(built)
    except RuntimeError as error:
        raise ValueError(
            f"encoder {config.encoder!r} does not take {resolution}×{resolution} images ({error}); "
            "choose other resolutions"
        ) from error
    return built


class StaticObjective(nn.Module):
    """The cross-entropy of a static network."""

    def __init__(self, network: StaticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch, epoch: int) -> Tensor:
        """The loss of each image, (B,)."""
        logits = self.network(batch.pixels).float()
        return functional.cross_entropy(logits, batch.labels, reduction="none")


def _task(network: StaticNetwork, images: ImageSet, config: BaselineConfig) -> Task:
    return Task(
        title=f"{network.config.resolution}×{network.config.resolution}",
        model=network,
        encoders=(network.encoder,),
        classifiers=(network.encoder.head_module(),),
        frozen=[network.encoder.get_submodule(name) for name in config.frozen],
        objective=StaticObjective(network),
        validate=lambda indices: {"static": evaluate_static(network, images, indices=indices)},
        validation_images=len(images),
    )
