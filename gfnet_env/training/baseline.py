"""Static baselines: the encoder alone, on whole images, at several resolutions."""

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
from gfnet_env.inference.cost import static_multiply_adds
from gfnet_env.inference.evaluation import evaluate_static
from gfnet_env.matching import check_classes
from gfnet_env.perception import StaticConfig, StaticNetwork
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
    device = resolve_device(config.device)
    sets = image_sets or open_splits(config)
    networks = {}
    for resolution in _resolutions(config, sets["train"]):
        # Seeded anew, so that a resolution gives the same network whatever is trained beside it.
        torch.manual_seed(config.seed)
        source = None if image_sets else config.images
        network = _build(config, resolution, sets["train"], source).to(device)
        check_frozen([network.encoder], config.frozen)
        for images in sets.values():
            check_classes(network.config, images)
        networks[resolution] = network
    run = create_run(config.run, overwrite=config.overwrite)
    save_config(run, config)
    results = []
    with Progress() as progress:
        for resolution, network in networks.items():
            torch.manual_seed(config.seed)
            with SummaryWriter(run / "tensorboard" / str(resolution)) as board:
                fit(_task(network, sets), sets["train"], config, device, board, progress)
            network.save(run / str(resolution))
            results.append(
                {
                    "resolution": resolution,
                    "accuracy": round(float(evaluate_static(network, sets["test"]).mean()), 6),
                    "multiply_adds": static_multiply_adds(network),
                }
            )
    write_json(run / "results.json", {"images": len(sets["test"]), "static": results})
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


def _task(network: StaticNetwork, sets: Mapping[str, ImageSet]) -> Task:
    def loss(batch: Batch, _: np.random.Generator) -> Tensor:
        return functional.cross_entropy(network(batch.pixels), batch.labels)

    return Task(
        title=f"{network.config.resolution}×{network.config.resolution}",
        model=network,
        encoders=(network.encoder,),
        classifiers=(network.encoder.head_module(),),
        loss=loss,
        validate=lambda: {"static": float(evaluate_static(network, sets["val"]).mean())},
    )
