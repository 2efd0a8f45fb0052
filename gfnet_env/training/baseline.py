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
from gfnet_env.perception import StaticConfig, StaticNetwork
from gfnet_env.runs import create_run, git_commit, resolve_device, save_config
from gfnet_env.training.loop import Task, TrainingConfig, check_frozen, fit, mirror, open_splits


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """What to train, on what, and how; leave everything as it was for stage 1 to be fair."""

    resolutions: tuple[int, ...] = (32, 64, 96, 128)
    """Sides that whole images are resized to, one network each, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.resolutions or min(self.resolutions) < 1:
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
        ValueError: A name or a value is wrong, or the loss is no longer finite.
    """
    device = resolve_device(config.device)
    sets = image_sets or open_splits(config)
    networks = {}
    for resolution in config.resolutions:
        # Seeded anew, so that a resolution gives the same network whatever is trained beside it.
        torch.manual_seed(config.seed)
        networks[resolution] = _build(config, resolution, sets["train"]).to(device)
        check_frozen([networks[resolution].encoder], config.frozen)
    run = create_run(config.run, overwrite=config.overwrite)
    save_config(run, config)
    results = []
    with Progress() as progress:
        for resolution, network in networks.items():
            torch.manual_seed(config.seed)
            with SummaryWriter(run / "tensorboard" / str(resolution)) as board:
                fit(_task(network, sets, config), sets["train"], config, device, board, progress)
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


def _build(config: BaselineConfig, resolution: int, images: ImageSet) -> StaticNetwork:
    network = StaticConfig(
        encoder=config.encoder,
        resolution=resolution,
        num_classes=images.num_classes,
        class_names=images.class_names,
        metadata={
            "images": config.images,
            "image_size": config.image_size,
            "seed": config.seed,
            "commit": git_commit(),
        },
    )
    return StaticNetwork(network, config.weights)


def _task(network: StaticNetwork, sets: Mapping[str, ImageSet], config: BaselineConfig) -> Task:
    def loss(batch: Batch, rng: np.random.Generator) -> Tensor:
        pixels = batch.pixels
        if config.flip:
            mirrored = torch.from_numpy(rng.random(len(pixels)) < 0.5).to(pixels.device)
            pixels = mirror(pixels, mirrored)
        return functional.cross_entropy(network(pixels), batch.labels)

    return Task(
        title=f"{network.config.resolution}×{network.config.resolution}",
        model=network,
        encoders=(network.encoder,),
        classifiers=(network.encoder.head_module(),),
        loss=loss,
        validate=lambda: {"static": float(evaluate_static(network, sets["val"]).mean())},
    )
