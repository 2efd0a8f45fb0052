"""The static network: one encoder on whole images at one resolution, what GFNet is held against."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfnet_env.files import read_json
from gfnet_env.perception.encoders import build_encoder
from gfnet_env.perception.geometry import check_images
from gfnet_env.perception.network import check_class_names
from gfnet_env.perception.resize import Interpolation, check_interpolation, resize
from gfnet_env.perception.saved import SavedModule


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """How to build a static network; saved with its weights.

    Attributes:
        encoder: Name of the encoder, see ``build_encoder``.
        resolution: Side that whole images are resized to, in pixels.
        num_classes: K.
        interpolation: How they are resized.
        antialias: Whether they are low-pass filtered before they are made smaller.
        class_names: One name per class, or None.
        metadata: Where the weights come from: free-form, JSON.
    """

    encoder: str
    resolution: int
    num_classes: int
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    class_names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("resolution", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_interpolation(self.interpolation)
        check_class_names(self.class_names, self.num_classes)


class StaticNetwork(SavedModule):
    """Resizes whole images to one resolution and classifies them with an encoder's own head.

    Args:
        config: How to build it.
        weights: Initial weights of the encoder, see ``TimmEncoder``.
    """

    file_name = "static"
    config_class = StaticConfig
    config: StaticConfig

    def __init__(self, config: StaticConfig, weights: str | Path | None = None) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder, config.num_classes, weights)
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) uint8."""
        check_images(images)
        return self.encoder.head(self.encoder(self.scale(images)).vector)

    def scale(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 at its resolution, (B, 3, R, R) uint8."""
        config = self.config
        return resize(images, config.resolution, config.interpolation, config.antialias)


def load_static_networks(folder: Path) -> list[StaticNetwork]:
    """The static networks of a run of ``train_baseline``, by rising resolution.

    Raises:
        FileNotFoundError: The run is missing, or did not end.
        ValueError: It holds other results.
    """
    rows = read_json(folder / "results.json").get("static")
    if not rows:
        raise ValueError(f"{folder} holds no static networks; give a run of train_baseline.py")
    networks = [StaticNetwork.load(folder / str(row["resolution"])) for row in rows]
    return sorted(networks, key=lambda network: network.config.resolution)
