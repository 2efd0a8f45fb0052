"""The learned policy as a plain torch module, free of the library that trained it."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gfnet_env.env.observation import Observation
from gfnet_env.perception import GlanceFocusNetwork

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


# Enough to take a cell that was seen whole out of a softmax.
_INHIBITION = 10.0


class MapEncoder(nn.Module):
    """Says where in a feature map things are.

    The map is squeezed to few channels (as GFNet, appendix A, does), from which come attention
    maps; what is kept of each is its expected coordinates (the spatial soft-argmax of Levine et
    al., 2016), from which a location is a linear map away.

    Where patches have been, a glance is blanked out: attention goes to the next best place without
    having to learn it (the inhibition of return of Itti, Koch and Niebur, 1998).

    Args:
        feature_shape: (C, h, w) of the map.
        channels: Channels it is squeezed to.
        points: Attention maps.
    """

    cell_coordinates: Tensor

    def __init__(self, feature_shape: tuple[int, int, int], channels: int, points: int) -> None:
        super().__init__()
        depth, height, width = feature_shape
        self.squeeze = nn.Conv2d(depth, channels, 1, bias=False)
        # Encoders differ in the scale of their features, which a policy should not care about. What
        # follows is linear, and needs no scale for each channel.
        self.normalise = nn.LayerNorm((channels, height, width), elementwise_affine=False)
        self.attention = nn.Conv2d(channels, points, 1)
        rows = (torch.arange(height) + 0.5) / height * 2 - 1
        columns = (torch.arange(width) + 0.5) / width * 2 - 1
        coordinates = torch.cartesian_prod(rows, columns).view(-1, 2)
        self.register_buffer("cell_coordinates", coordinates, persistent=False)
        self.output_size = 2 * points

    def forward(self, feature_map: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, output_size) of a map (B, C, h, w) of which some, (B, 1, h, w), is to be ignored."""
        scores = self.attention(self.normalise(self.squeeze(feature_map)).relu())
        if seen is not None:
            scores = scores - _INHIBITION * seen
        attention = scores.flatten(2).softmax(dim=2)
        return (attention @ self.cell_coordinates).flatten(1)


class ObservationEncoder(nn.Module):
    """Makes one vector of an observation: of both its maps, the memory, the location and the step.

    Args:
        feature_shape: (C, h, w) of ``features``, and of ``glance`` before it was flattened.
        memory_size: M of ``memory``.
        channels: Channels each map is squeezed to.
        points: Attention maps of each.
        width: Numbers that the memory is brought to.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        memory_size: int,
        channels: int = 32,
        points: int = 16,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.glance = MapEncoder(feature_shape, channels, points)
        self.features = MapEncoder(feature_shape, channels, points)
        self.memory = nn.Sequential(nn.Linear(memory_size, width), nn.ReLU())
        self.output_size = self.glance.output_size + self.features.output_size + width + 3

    def forward(self, observation: Observation) -> Tensor:
        """(B, output_size) of B observations."""
        features = observation["features"]
        seen = observation["seen"].view(-1, 1, *features.shape[2:])
        return torch.cat(
            [
                self.glance(observation["glance"].view_as(features), seen),
                # At the glance both maps are one; what is learned of it there serves later steps.
                self.features(features) * (observation["step"] > 0),
                self.memory(observation["memory"]),
                observation["location"],
                observation["step"],
            ],
            dim=1,
        )


class LearnedPolicy(nn.Module):
    """Maps an observation to a location, deterministically.

    Args:
        feature_shape: (C, h, w) of ``features``.
        memory_size: M of ``memory``.
        hidden_sizes: Widths of the hidden layers between encoder and action.
        activation: ``tanh`` or ``relu``, after each hidden layer.

    Raises:
        ValueError: The activation is unknown.
    """

    name = "learned"

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        memory_size: int,
        hidden_sizes: tuple[int, ...],
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(_ACTIVATIONS)}")
        self.config = {
            "feature_shape": list(feature_shape),
            "memory_size": memory_size,
            "hidden_sizes": list(hidden_sizes),
            "activation": activation,
        }
        depth, height, width = feature_shape
        self.encoder = ObservationEncoder((depth, height, width), memory_size)
        sizes = [self.encoder.output_size, *hidden_sizes]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
        self.actor = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    def check_fit(self, network: GlanceFocusNetwork) -> None:
        """Raises ``ValueError`` unless this policy was made for such a network."""
        wanted = (list(network.feature_shape), network.memory_size)
        made_for = (self.config["feature_shape"], self.config["memory_size"])
        if wanted != made_for:
            raise ValueError(
                f"the policy was made for features and memory of {made_for}, the network has "
                f"{wanted}; learn a policy for this network"
            )

    def forward(self, observation: Observation, state: None = None) -> tuple[Tensor, None]:
        """Locations (B, 2) in [-1, 1], and no state."""
        return self.actor(self.encoder(observation)).clamp(-1, 1), state
