"""The base classes of encoders, which turn views into a feature map and a feature vector."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfnet_env.arrays import as_array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """Features of B views.

    Attributes:
        map: Feature map before pooling, (B, C, h, w).
        vector: Feature vector after pooling, (B, V): the input of a classifier.
    """

    map: Tensor
    vector: Tensor


class Encoder(nn.Module, ABC):
    """Turns pixels into features; applies the normalisation that its weights expect.

    Args:
        mean: Mean of each channel, for pixels in [0, 1]; by default ImageNet's.
        std: Standard deviation of each channel, for pixels in [0, 1]; by default ImageNet's.

    Raises:
        ValueError: These are not three finite numbers each, or a deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        for name, given in (("mean", mean), ("std", std)):
            values = torch.as_tensor(as_array(given, name), dtype=torch.float32)
            if values.shape != (3,) or not bool(values.isfinite().all()):
                raise ValueError(f"{name} must be 3 finite numbers, one per channel, not {given}")
            # In units of uint8 pixels: normalising is one subtraction and one division.
            self.register_buffer(name, 255 * values.view(3, 1, 1))
        if bool((self.std <= 0).any()):
            raise ValueError(f"std must be positive, not {std}")

    def forward(self, views: Tensor, normalised: bool = False) -> Features:
        """Normalise and encode.

        Args:
            views: (B, 3, P, P), pixels in 0..255, uint8 or floats.
            normalised: Whether the views are normalised floats instead.
        """
        if normalised:
            return self.encode(views.to(self.mean.dtype))
        return self.encode((views - self.mean) / self.std)

    @abstractmethod
    def encode(self, views: Tensor) -> Features:
        """Encode normalised floats, (B, 3, P, P)."""

    @abstractmethod
    def head_module(self) -> nn.Module:
        """The module that maps a feature vector, (B, V), to the encoder's own logits, (B, K)."""

    def head(self, vector: Tensor) -> Tensor:
        """The encoder's own logits, (B, K)."""
        return self.head_module()(vector)


class ModuleEncoder(Encoder):
    """An encoder made of modules of your own; see ``gfnet_env.encoders.registry``.

    Args:
        body: Maps normalised views (B, 3, P, P) to a feature map (B, C, h, w).
        head: Maps a feature vector (B, V) to logits (B, K).
        pool: Maps the feature map to the vector (B, V); None takes the mean over its cells, V = C.
        mean: See ``Encoder``.
        std: See ``Encoder``.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        pool: nn.Module | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(mean, std)
        self.body = body
        self.own_head = head
        self.pool = pool or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def encode(self, views: Tensor) -> Features:
        feature_map = self.body(views)
        return Features(feature_map, self.pool(feature_map))

    def head_module(self) -> nn.Module:
        return self.own_head
