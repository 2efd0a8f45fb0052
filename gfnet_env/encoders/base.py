"""What every encoder is: from views to a feature map and a feature vector."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """What an encoder makes of B views.

    Attributes:
        map: Before pooling, (B, C, h, w).
        vector: After pooling, (B, V): what a classifier takes in.
    """

    map: Tensor
    vector: Tensor


class Encoder(nn.Module, ABC):
    """Turns pixels into features, and owns the normalisation that its weights expect.

    Args:
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        # In the units of uint8 pixels, so that normalising is one subtraction and one division.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))

    def forward(self, views: Tensor, normalised: bool = False) -> Features:
        """Normalise and encode.

        Args:
            views: (B, 3, P, P), pixels in 0..255, uint8 or floats.
            normalised: Whether they are floats that are normalised already.
        """
        if normalised:
            return self.encode(views.to(self.mean.dtype))
        return self.encode((views - self.mean) / self.std)

    @abstractmethod
    def encode(self, views: Tensor) -> Features:
        """Encode normalised floats, (B, 3, P, P)."""

    @abstractmethod
    def head_module(self) -> nn.Module:
        """The module that makes the encoder's own logits of its feature vector."""

    def head(self, vector: Tensor) -> Tensor:
        """The encoder's own logits, (B, K), from its feature vector, (B, V)."""
        return self.head_module()(vector)
