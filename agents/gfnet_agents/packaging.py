"""Make an assembled network part of the package."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from gfnet_agents.parts import mean_exit
from gfnet_env.files import replacing, write_json
from gfnet_env.images import ReadingOptions
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import check_free
from gfnet_env.settings import Flat, Settings
from gfnet_env.zoo import CARD, Card, place


@dataclass(frozen=True, kw_only=True)
class PackagingConfig(Settings):
    """Which network, and how to store it."""

    run: Path
    """Run folder of an assembled network."""
    name: str
    """Its name from now on: letters, digits, -, _ and dots."""
    half: bool = False
    """Whether to store its weights as float16."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)
    overwrite: bool = False
    """Whether a network of this name may be replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        place(self.name)


def package_network(config: PackagingConfig) -> None:
    """Save the network and what the stored copy scores on the split test of its images."""
    folder = place(config.name)
    check_free(folder, overwrite=config.overwrite)
    gfnet = EarlyExitGFNet.load(assembled_in(config.run))
    images = ImageOptions(reading=config.reading).open(gfnet.model, "test")
    if config.half:
        for part in (gfnet.model, gfnet.policy):
            if isinstance(part, nn.Module):
                part.half()
    with replacing(folder) as new:
        gfnet.save(new)
        gfnet = EarlyExitGFNet.load(new)
        found = mean_exit(gfnet, images)
        trained_on = gfnet.model.trained_on
        assert trained_on.images is not None
        card = Card(
            images=trained_on.images,
            accuracy=round(found["accuracy"], 4),
            looks=round(found["looks"], 2),
            multiply_adds=round(found["multiply_adds"]),
            commit=trained_on.commit,
        )
        write_json(new / CARD, dataclasses.asdict(card))
    print(f"{folder}: {card}")
