"""The static network: one encoder on whole images at one resolution, what GFNet is held against."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gfnet_env import files
from gfnet_env.perception.encoders import build_encoder
from gfnet_env.perception.geometry import check_images
from gfnet_env.perception.network import check_class_names
from gfnet_env.perception.resize import Interpolation, check_interpolation, resize

_NAME = "static"


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


class StaticNetwork(nn.Module):
    """Resizes whole images to one resolution and classifies them with an encoder's own head.

    Args:
        config: How to build it.
        weights: Initial weights of the encoder, see ``TimmEncoder``.
    """

    def __init__(self, config: StaticConfig, weights: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
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

    def save(self, folder: str | Path) -> None:
        """Write ``static.safetensors`` and ``static.json`` into a folder."""
        files.save_module(Path(folder), _NAME, self, dataclasses.asdict(self.config))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a network that ``save`` wrote, onto the CPU and in evaluation mode.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged, or the weights do not fit the configuration.
        """
        config = files.load_dataclass(Path(folder), _NAME, StaticConfig)
        network = cls(config)
        files.load_weights(Path(folder), _NAME, network)
        return network.eval()
