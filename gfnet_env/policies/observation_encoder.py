"""The observation encoder of learned policies: attention over maps, and linear layers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.settings import AtLeast, AtMost, checked

# Removes a fully seen cell from a softmax.
_INHIBITION = 10.0
# Limits the weights of a squeeze: with the deep maps of large encoders, learning would be slow.
_MOST_WEIGHTS = 2**16
# Vectors up to this size are used unchanged.
_FEW = 16

MapShape = tuple[int, int, int]
# More would rather be a damaged file than a network that fits in memory.
Size = Annotated[int, AtLeast(1), AtMost(10_000)]
_Extent = Annotated[int, AtLeast(1), AtMost(10**8)]


def checked_shapes(shapes: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Shapes of vectors (D,) and maps (C, h, w); raises ``ValueError`` if one is neither."""
    found = {}
    for name, shape in checked("shapes", shapes, Mapping).items():
        found[name] = list(checked(f"the shape of {name}", shape, tuple[_Extent, ...]))
        if len(shape) not in (1, 3):
            raise ValueError(f"the shape of {name} must be (D,) or (C, h, w), not {shape}")
    return found


class _MapReader(nn.Module):
    """Squeezes a feature map to a few channels, as in GFNet (appendix A), and reads it.

    ``embed`` does what depends on the map alone and takes most of the time, ``forward`` the rest.

    Args:
        feature_shape: (C, h, w) of the map.
        channels: Number of channels after the squeeze; fewer if the map has more than 1024.
        points: Half of the size of the output.
    """

    def __init__(self, feature_shape: MapShape, channels: int, points: int) -> None:
        super().__init__()
        depth, height, width = feature_shape
        self.channels = min(channels, max(1, _MOST_WEIGHTS // depth))
        self.output_size = 2 * points
        self.squeeze = nn.Conv2d(depth, self.channels, 1, bias=False)
        # Makes the policy independent of the scale of the encoder's features. The next layer is
        # linear, so no scale per channel is needed.
        self.normalise = nn.LayerNorm((height * width, self.channels), elementwise_affine=False)

    def embed(self, feature_map: Tensor) -> Tensor:
        """Squeeze a map (B, C, h, w) to cells (B, h·w, channels)."""
        # Maps in either memory layout give the same numbers, bit for bit.
        cells = feature_map.flatten(2).transpose(1, 2).contiguous()
        return self.normalise(_convolve(self.squeeze, cells)).relu()

    def read(self, feature_map: Tensor) -> Tensor:
        """(B, output_size) of a map (B, C, h, w)."""
        read: Tensor = self(self.embed(feature_map))
        return read


def _convolve(layer: nn.Conv2d, cells: Tensor) -> Tensor:
    """A 1×1 convolution of cells (B, h·w, C).

    As a matrix product, its gradient takes half as long on a CPU.
    """
    return functional.linear(cells, layer.weight.flatten(1), layer.bias)


class MapEncoder(_MapReader):
    """Locates things in a feature map.

    The squeezed map gives attention maps. Each is reduced to its expected coordinates (the spatial
    soft-argmax of Levine et al., 2016), so a location is a linear function of the output.

    In the map of a glance, cells that windows have shown are blanked out, so attention moves to the
    next best place without having to learn that (the inhibition of return of Itti, Koch and Niebur,
    1998).
    """

    cell_coordinates: Tensor

    def __init__(self, feature_shape: MapShape, channels: int, points: int) -> None:
        super().__init__(feature_shape, channels, points)
        _, height, width = feature_shape
        self.attention = nn.Conv2d(self.channels, points, 1)
        rows = (torch.arange(height) + 0.5) / height * 2 - 1
        columns = (torch.arange(width) + 0.5) / width * 2 - 1
        coordinates = torch.cartesian_prod(rows, columns).view(-1, 2)
        self.register_buffer("cell_coordinates", coordinates, persistent=False)

    def embed(self, feature_map: Tensor) -> Tensor:
        """The scores (B, h·w, points) of the cells of a map (B, C, h, w)."""
        return _convolve(self.attention, super().embed(feature_map))

    def forward(self, scores: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, output_size) of an embedded map, less its seen share (B, h·w)."""
        if seen is not None:
            scores = scores - _INHIBITION * seen[:, :, None]
        attention = scores.transpose(1, 2).softmax(dim=2)
        return (attention @ self.cell_coordinates).flatten(1)


class FlatMapEncoder(_MapReader):
    """Reads a feature map cell by cell, like the policies of GFNet (appendix A).

    As in ``MapEncoder``, cells that windows have shown are blanked out in the map of a glance.
    """

    def __init__(self, feature_shape: MapShape, channels: int, points: int) -> None:
        super().__init__(feature_shape, channels, points)
        _, height, width = feature_shape
        self.linear = nn.Linear(self.channels * height * width, self.output_size)

    def forward(self, squeezed: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, output_size) of an embedded map, less its seen share (B, h·w)."""
        if seen is not None:
            squeezed = squeezed * (1 - seen[:, :, None])
        return self.linear(squeezed.transpose(1, 2).flatten(1)).relu()


class ObservationEncoder(nn.Module):
    """Converts any observation to one vector.

    It reads maps (C, h, w) by attention. ``glance`` is a flattened map, the same throughout an
    episode, and blanked out where it was ``seen``. Each vector of more than 16 numbers goes through
    a linear layer; smaller vectors are used unchanged.

    Args:
        shapes: Shape of each part of an observation, by key.
        channels: Number of channels that each map is squeezed to, up to 10,000.
        points: Number of attention maps for each map, up to 10,000.
        width: Size that a large vector is reduced to, up to 10,000.
        keep_glance: Whether to read the map of the glance at every step, or only at the first.
        inhibition: Whether to blank out the map of the glance where it was seen.
        attention: Whether to read maps with a ``MapEncoder`` or with a ``FlatMapEncoder``.

    Attributes:
        options: All arguments but the shapes, by name.
        reads_glance: Whether it reads the map of the glance at every step.

    Raises:
        ValueError: An argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        channels: int = 64,
        points: int = 32,
        width: int = 128,
        keep_glance: bool = True,
        inhibition: bool = True,
        attention: bool = True,
    ) -> None:
        super().__init__()
        shapes = checked_shapes(shapes)
        self.options = {
            "channels": checked("channels", channels, Size),
            "points": checked("points", points, Size),
            "width": checked("width", width, Size),
            "keep_glance": checked("keep_glance", keep_glance, bool),
            "inhibition": checked("inhibition", inhibition, bool),
            "attention": checked("attention", attention, bool),
        }
        reader = MapEncoder if attention else FlatMapEncoder
        self.inhibition = inhibition
        self.output_size = 0
        self.reads_glance = "glance" in shapes and keep_glance
        names = set(shapes) - {"glance", "seen"}
        # A glance has the shape of ``features`` and comes before it.
        if self.reads_glance:
            features = cast("MapShape", tuple(shapes["features"]))
            self._glance_shape = features
            self.glance = reader(features, channels, points)
            self.output_size += self.glance.output_size
        self._maps = sorted(name for name in names if len(shapes[name]) == 3)
        for name in self._maps:
            read = reader(cast("MapShape", tuple(shapes[name])), channels, points)
            self.add_module(name, read)
            self.output_size += read.output_size
        vectors = {name: shapes[name][0] for name in sorted(names - set(self._maps))}
        self._large = [name for name, size in vectors.items() if size > _FEW or name == "memory"]
        for name in self._large:
            layer = nn.Sequential(nn.Linear(vectors[name], width), nn.ReLU())
            self.add_module(name, layer)
            self.output_size += width
        self._small = [name for name in vectors if name not in self._large]
        self.output_size += sum(vectors[name] for name in self._small)

    def embed_glance(self, glance: Tensor) -> Tensor:
        """What ``forward`` reads of flattened maps (B, C·h·w): the same throughout an episode."""
        return self.glance.embed(glance.unflatten(1, self._glance_shape))

    def forward(self, observation: Mapping[str, Tensor], glance: Tensor | None = None) -> Tensor:
        """Convert B observations to vectors (B, output_size).

        Args:
            observation: The observations.
            glance: ``embed_glance`` of their glances, if it is known. Then only the maps of windows
                are left to read: their number differs from call to call, so no export can do this.
        """
        parts = [self._read(name, observation, glance is not None) for name in self._maps]
        if self.reads_glance:
            seen = observation["seen"] if self.inhibition else None
            embedded = self.embed_glance(observation["glance"]) if glance is None else glance
            parts = [self.glance(embedded, seen), *parts]
        parts += [self.get_submodule(name)(observation[name]) for name in self._large]
        return torch.cat([*parts, *(observation[name] for name in self._small)], dim=1)

    def _read(self, name: str, observation: Mapping[str, Tensor], only_windows: bool) -> Tensor:
        """Read a kind of map, (B, size)."""
        reader = cast("MapEncoder | FlatMapEncoder", self.get_submodule(name))
        maps = observation[name]
        if name != "features" or not self.reads_glance:
            return reader.read(maps)
        # At the glance, both maps are the same, so one is enough.
        looked = observation["step"] > 0
        if not only_windows:
            return reader.read(maps) * looked
        rows = looked.squeeze(1).nonzero().squeeze(1)
        nothing = maps.new_zeros(len(maps), reader.output_size)
        return nothing.index_copy(0, rows, reader.read(maps[rows]))
