"""The recurrent policy of GFNet's authors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gfnet_env.models.base import Model, blank_state
from gfnet_env.models.gfnet import GFNetState
from gfnet_env.policies.base import POLICIES
from gfnet_env.policies.observation_encoder import Size
from gfnet_env.settings import checked


@POLICIES.register("recurrent")
class RecurrentPolicy(nn.Module):
    """Maps the feature map of the latest view and a memory to a location (GFNet, 3.2).

    A 1×1 convolution squeezes the map. After flattening follow a hidden layer, a gated recurrent
    unit and a linear layer. The sigmoid of the last layer is the location, from 0 (top left) to 1
    (bottom right).

    Args:
        feature_shape: Shape of ``features``, (C, h, w).
        hidden_size: Size of the memory.
        squeezed_channels: Number of channels of the squeezed map; None does not squeeze the map.
        flat_size: Width of one more layer after flattening; None means no such layer.

    Raises:
        ValueError: A size is below 1 or above 10,000.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        hidden_size: int = 256,
        squeezed_channels: int | None = 32,
        flat_size: int | None = None,
    ) -> None:
        super().__init__()
        self.config = {
            "feature_shape": list(checked("feature_shape", feature_shape, tuple[Size, Size, Size])),
            "hidden_size": checked("hidden_size", hidden_size, Size),
            "squeezed_channels": checked("squeezed_channels", squeezed_channels, Size | None),
            "flat_size": checked("flat_size", flat_size, Size | None),
        }
        depth, *cells = feature_shape
        layers: list[nn.Module] = []
        if squeezed_channels is not None:
            layers += [nn.Conv2d(depth, squeezed_channels, 1, bias=False), nn.ReLU()]
            depth = squeezed_channels
        layers.append(nn.Flatten())
        width = depth * math.prod(cells)
        if flat_size is not None:
            layers += [nn.Linear(width, flat_size), nn.ReLU()]
            width = flat_size
        self.encoder = nn.Sequential(*layers, nn.Linear(width, hidden_size), nn.ReLU())
        self.cell = nn.GRUCell(hidden_size, hidden_size)
        self.actor = nn.Linear(hidden_size, 2)

    def check_fit(self, model: Model) -> None:
        """Raise ``ValueError`` unless this policy was made for such a model."""
        state = blank_state(model)
        shape = list(state.feature_map.shape[1:]) if isinstance(state, GFNetState) else None
        if shape != self.config["feature_shape"]:
            raise ValueError(
                f"the policy was made for features of {self.config['feature_shape']}, the model "
                f"has {shape}; take the policy of this model"
            )

    def forward(
        self, observation: Mapping[str, Tensor], memory: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Locations (B, 2) in [-1, 1], and the memory (B, hidden_size)."""
        memory = self.cell(self.encoder(observation["features"]), memory)
        share = self.actor(memory).sigmoid()
        # float64 keeps all digits of a small share; rounding could move a corner by a pixel.
        wide = share if share.device.type == "mps" else share.to(torch.float64)
        return 2 * wide - 1, memory
