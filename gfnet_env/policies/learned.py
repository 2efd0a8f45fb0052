"""The learned policy as a plain torch module, free of the library that trained it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_env.env.observation import Observation
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.geometry import lattice

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
_OUTPUTS = ("clamp", "tanh", "grid")

# Enough to take a cell that was seen whole out of a softmax.
_INHIBITION = 10.0
# Of the squeeze of a map: the deep maps of large encoders would make a policy dear to learn.
_MOST_WEIGHTS = 2**16


class _MapReader(nn.Module):
    """Squeezes a feature map to few channels, as GFNet (appendix A) does.

    Args:
        feature_shape: (C, h, w) of the map.
        channels: Channels it is squeezed to; fewer where it has more than 1024.

    Attributes:
        channels: Those it is squeezed to.
    """

    def __init__(self, feature_shape: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        depth, height, width = feature_shape
        self.channels = min(channels, max(1, _MOST_WEIGHTS // depth))
        self.squeeze = nn.Conv2d(depth, self.channels, 1, bias=False)
        # Encoders differ in the scale of their features, which a policy should not care about. What
        # follows is linear, and needs no scale for each channel.
        self.normalise = nn.LayerNorm((self.channels, height, width), elementwise_affine=False)

    def squeezed(self, feature_map: Tensor) -> Tensor:
        """(B, channels, h, w) of a map (B, C, h, w)."""
        return self.normalise(self.squeeze(feature_map)).relu()


class MapEncoder(_MapReader):
    """Says where in a feature map things are.

    From the squeezed map come attention maps; what is kept of each is its expected coordinates (the
    spatial soft-argmax of Levine et al., 2016), from which a location is a linear map away.

    Where patches have been, a glance is blanked out: attention goes to the next best place without
    having to learn it (the inhibition of return of Itti, Koch and Niebur, 1998).

    Args:
        feature_shape: (C, h, w) of the map.
        channels: Channels it is squeezed to; fewer where it has more than 1024.
        points: Attention maps.
    """

    cell_coordinates: Tensor

    def __init__(self, feature_shape: tuple[int, int, int], channels: int, points: int) -> None:
        super().__init__(feature_shape, channels)
        _, height, width = feature_shape
        self.attention = nn.Conv2d(self.channels, points, 1)
        rows = (torch.arange(height) + 0.5) / height * 2 - 1
        columns = (torch.arange(width) + 0.5) / width * 2 - 1
        coordinates = torch.cartesian_prod(rows, columns).view(-1, 2)
        self.register_buffer("cell_coordinates", coordinates, persistent=False)
        self.output_size = 2 * points

    def forward(self, feature_map: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, output_size) of a map (B, C, h, w) of which some, (B, 1, h, w), is to be ignored."""
        scores = self.attention(self.squeezed(feature_map))
        if seen is not None:
            scores = scores - _INHIBITION * seen
        attention = scores.flatten(2).softmax(dim=2)
        return (attention @ self.cell_coordinates).flatten(1)


class FlatMapEncoder(_MapReader):
    """Reads a feature map cell by cell, as the policies of GFNet (appendix A) do.

    Where patches have been, a glance is blanked out here too.

    Args:
        feature_shape: (C, h, w) of the map.
        channels: Channels it is squeezed to; fewer where it has more than 1024.
        points: Half of the numbers that it is brought to.
    """

    def __init__(self, feature_shape: tuple[int, int, int], channels: int, points: int) -> None:
        super().__init__(feature_shape, channels)
        _, height, width = feature_shape
        self.output_size = 2 * points
        self.linear = nn.Linear(self.channels * height * width, self.output_size)

    def forward(self, feature_map: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, output_size) of a map (B, C, h, w) of which some, (B, 1, h, w), is to be ignored."""
        squeezed = self.squeezed(feature_map)
        if seen is not None:
            squeezed = squeezed * (1 - seen)
        return self.linear(squeezed.flatten(1)).relu()


class ObservationEncoder(nn.Module):
    """Makes one vector of an observation: of both its maps, the memory, the location and the step.

    Args:
        feature_shape: (C, h, w) of ``features``, and of ``glance`` before it was flattened.
        memory_size: M of ``memory``.
        channels: Channels each map is squeezed to.
        points: Attention maps of each.
        width: Numbers that the memory is brought to.
        keep_glance: Whether the map of the glance is read at every step, and not at the first only.
        inhibition: Whether it is blanked out where patches have been.
        attention: Whether maps are read by a ``MapEncoder``, or by a ``FlatMapEncoder``.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        memory_size: int,
        channels: int = 64,
        points: int = 32,
        width: int = 128,
        keep_glance: bool = True,
        inhibition: bool = True,
        attention: bool = True,
    ) -> None:
        super().__init__()
        reader = MapEncoder if attention else FlatMapEncoder
        self.glance = reader(feature_shape, channels, points) if keep_glance else None
        self.features = reader(feature_shape, channels, points)
        self.memory = nn.Sequential(nn.Linear(memory_size, width), nn.ReLU())
        self.inhibition = inhibition
        maps = 1 if self.glance is None else 2
        self.output_size = maps * self.features.output_size + width + 3

    def forward(self, observation: Observation) -> Tensor:
        """(B, output_size) of B observations."""
        features, step = observation["features"], observation["step"]
        maps = [self.features(features)]
        if self.glance is not None:
            glance = observation["glance"].view_as(features)
            seen = observation["seen"].view(-1, 1, *features.shape[2:])
            # At the glance both maps are one; what is learned of it there serves later steps.
            maps = [self.glance(glance, seen if self.inhibition else None), maps[0] * (step > 0)]
        memory = self.memory(observation["memory"])
        return torch.cat([*maps, memory, observation["location"], step], dim=1)


class LearnedPolicy(nn.Module):
    """Maps an observation to a location, deterministically: what an agent has learned.

    Args:
        feature_shape: (C, h, w) of ``features``.
        memory_size: M of ``memory``.
        hidden_sizes: Widths of the hidden layers between encoder and action.
        activation: ``tanh`` or ``relu``, after each hidden layer.
        output: What becomes of the last layer: ``clamp`` cuts two numbers to [-1, 1], ``tanh``
            squashes them, ``grid`` takes the cell of the largest of grid².
        grid: Cells along each axis, for ``grid``.
        revisit: Whether cells may be looked at twice; where not, each image's are remembered.
        recurrent_size: Size of a memory of its own (an LSTM) after the encoder; None for none.
        encoder: Arguments of the ``ObservationEncoder`` in place of its defaults.

    Raises:
        ValueError: The activation or the output is unknown, or cells are to be told apart where
            there are none.
    """

    name = "learned"
    cells: Tensor

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        memory_size: int,
        hidden_sizes: tuple[int, ...],
        activation: str = "tanh",
        output: str = "clamp",
        grid: int = 7,
        revisit: bool = True,
        recurrent_size: int | None = None,
        encoder: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(_ACTIVATIONS)}")
        if output not in _OUTPUTS:
            raise ValueError(f"unknown output {output!r}; known: {', '.join(_OUTPUTS)}")
        if not revisit and output != "grid":
            raise ValueError(f"only cells of a grid can be left out, not locations of {output!r}")
        self.config = {
            "feature_shape": list(feature_shape),
            "memory_size": memory_size,
            "hidden_sizes": list(hidden_sizes),
            "activation": activation,
            "output": output,
            "grid": grid,
            "revisit": revisit,
            "recurrent_size": recurrent_size,
            "encoder": dict(encoder or {}),
        }
        self.output, self.revisit = output, revisit
        depth, height, width = feature_shape
        self.encoder = ObservationEncoder((depth, height, width), memory_size, **(encoder or {}))
        size = self.encoder.output_size
        self.recurrent = None if recurrent_size is None else nn.LSTMCell(size, recurrent_size)
        size = size if recurrent_size is None else recurrent_size
        self.register_buffer("cells", lattice(grid), persistent=False)
        sizes = [size, *hidden_sizes]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
        outputs = len(self.cells) if output == "grid" else 2
        self.actor = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def check_fit(self, network: GlanceFocusNetwork) -> None:
        """Raises ``ValueError`` unless this policy was made for such a network."""
        wanted = (list(network.feature_shape), network.memory_size)
        made_for = (self.config["feature_shape"], self.config["memory_size"])
        if wanted != made_for:
            raise ValueError(
                f"the policy was made for features and memory of {made_for}, the network has "
                f"{wanted}; learn a policy for this network"
            )

    def forward(
        self, observation: Observation, state: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any] | None]:
        """Locations (B, 2) in [-1, 1], and what it remembers.

        That is ``recurrent``, the hidden and the cell state of its LSTM, each (B, recurrent_size),
        and ``looked``, (B, grid²) bool, as far as it has them; None where it has neither.
        """
        before: Mapping[str, Any] = state or {}
        after: dict[str, Any] = {}
        features = self.encoder(observation)
        if self.recurrent is not None:
            after["recurrent"] = self.recurrent(features, before.get("recurrent"))
            features, _ = after["recurrent"]
        chosen = self.actor(features)
        if self.output != "grid":
            locations = chosen.tanh() if self.output == "tanh" else chosen.clamp(-1, 1)
            return locations, after or None
        if not self.revisit:
            looked = before.get("looked", torch.zeros_like(chosen, dtype=torch.bool))
            # As in the environment, all cells are open again where none is left.
            closed = looked & ~looked.all(dim=1, keepdim=True)
            chosen = chosen.masked_fill(closed, -torch.inf)
        cell = chosen.argmax(dim=1)
        if not self.revisit:
            after["looked"] = looked.scatter(1, cell[:, None], True)
        return self.cells[cell], after or None
