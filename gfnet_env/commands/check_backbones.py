"""Check whether encoders can be used in a network, and print what they cost."""

from dataclasses import dataclass
from typing import Annotated

from gfnet_env.benchmarks.backbones import PAPER_BACKBONES, check_backbone
from gfnet_env.console import PlainConsole, PlainTable, track
from gfnet_env.settings import AtLeast, Settings


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Settings):
    """What to check."""

    encoders: tuple[str, ...] = (*PAPER_BACKBONES, "torchvision:shufflenet_v2_x1_0")
    """Encoders; by default the encoders of the GFNet paper, and ShuffleNetV2."""
    patch_size: Annotated[int, AtLeast(1)] = 96
    """P for counting multiply-adds, in pixels."""


def check_backbones(config: BackboneConfig) -> None:
    """Check them one by one and print a table."""
    table = PlainTable("encoder", "map", "vector", "parameters", "multiply-adds")
    for name in track(config.encoders, "backbones"):
        found = check_backbone(name, config.patch_size)
        table.add_row(
            name,
            "×".join(map(str, found.feature_shape)),
            f"{found.vector_size:,}",
            f"{found.parameters / 1e6:.2f} M",
            f"{found.multiply_adds / 1e6:.1f} M",
        )
    PlainConsole().print(table)
