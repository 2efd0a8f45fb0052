"""The static network, GFNet's baseline: one encoder on overviews at one resolution."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from gfnet_env.encoders import build_encoder
from gfnet_env.files import read_json
from gfnet_env.looks import ViewConfig
from gfnet_env.models.base import check_views
from gfnet_env.models.saved import SavedConfig, SavedModule
from gfnet_env.paths import user_path
from gfnet_env.settings import AtLeast, checked


@dataclass(frozen=True, kw_only=True)
class StaticConfig(SavedConfig):
    """How to build a static network.

    Attributes:
        resolution: R, side of the overviews, in pixels.
    """

    resolution: Annotated[int, AtLeast(1)]

    @property
    def view(self) -> ViewConfig:
        """How the single view of a picture is made."""
        return ViewConfig(
            size=self.resolution,
            interpolation=self.interpolation,
            antialias=self.antialias,
            aspect=self.aspect,
        )


class StaticNetwork(SavedModule):
    """Classifies overviews with an encoder's own head.

    Args:
        config: How to build it.
        weights: Initial weights of the encoder, see ``TimmEncoder``.
        trusted: Whether the spec may import a module, see ``Registry.build``.
    """

    file_name = "static"
    config_class = StaticConfig
    config: StaticConfig

    def __init__(
        self, config: StaticConfig, weights: str | Path | None = None, *, trusted: bool = True
    ) -> None:
        super().__init__(config)
        self.view = config.view
        self.encoder = build_encoder(
            config.encoder,
            config.num_classes,
            weights,
            patch_size=config.resolution,
            trusted=trusted,
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, views: Tensor, normalised: bool = False) -> Tensor:
        """Logits (B, K).

        Args:
            views: Overviews, (B, 3, R, R), uint8 or floats in 0..255.
            normalised: Whether the views are normalised floats instead.

        Raises:
            ValueError: The views have another size.
        """
        check_views(views, self.view)
        return self.encoder.head(self.encoder(views, normalised).vector)


def load_static_networks(folder: str | Path) -> list[StaticNetwork]:
    """The static networks of a run of ``train_baseline``, by rising resolution.

    Raises:
        FileNotFoundError: The run is missing or incomplete.
        ValueError: The run holds other results.
    """
    folder = user_path(folder)
    rows = read_json(folder / "results.json").get("static")
    if not rows:
        raise ValueError(f"{folder} holds no static networks; give a run of train_baseline.py")
    try:
        names = [str(checked("resolution", row["resolution"], int)) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'results.json'} does not list static networks; restore it from a copy"
        ) from error
    networks = [StaticNetwork.load(folder / name) for name in names]
    return sorted(networks, key=lambda network: network.config.resolution)
