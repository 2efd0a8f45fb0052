"""Features on a lattice of locations, computed once and kept on disk."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor

from gfnet_env.data import ImageSet
from gfnet_env.digest import digest
from gfnet_env.features.base import FrozenFeatures, Numbers
from gfnet_env.features.identity import describe
from gfnet_env.features.store import DESCRIPTION, RecordStore
from gfnet_env.perception import Features, GlanceFocusNetwork, Step
from gfnet_env.perception.geometry import check_locations, lattice, nearest_cell
from gfnet_env.perception.precision import Precision, precision_type

# The lattice of a grid of 7×7 is part of this one.
DEFAULT_CELLS = 13
DEFAULT_FOLDER = Path("runs") / "features"
DEFAULT_LIMIT_GIB = 128.0


class CachedFeatures(FrozenFeatures):
    """The features of every image's glance and of patches on a lattice, each computed once.

    Locations are taken to the nearest one of the lattice; there an observation is that of
    ``LiveFeatures`` but for the rounding of sums, which hangs on how many images an encoder is
    given at once. For the same reason a run on an empty store and one on a full store may differ in
    the last bits of a number.

    The store lies in ``folder``, in a folder of its own for every combination of encoder weights,
    geometry, precision and images. Algorithms, runs and processes of one machine share it: several
    may fill it at once, and each may be killed at any moment, see ``RecordStore``. It takes what
    was computed so far, 4 (C·h·w + V) bytes for each view, half of it in bfloat16. For what is in
    the store no pixel is read.

    Args:
        network: See ``FrozenFeatures``.
        images: Likewise.
        rows: Likewise.
        precision: Likewise, and what the store holds.
        cells: Of the lattice along each axis, G: (1 + G²) views of each image.
        folder: Where stores are, or a store.
        limit_gib: What the store may take when it is full, in GiB.

    Raises:
        ValueError: The full store would be over the limit, ``folder`` is a store of other features,
            or the store is damaged.
        OSError: The store cannot be written.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        images: ImageSet,
        rows: int,
        *,
        precision: Precision = "float32",
        cells: int = DEFAULT_CELLS,
        folder: str | Path = DEFAULT_FOLDER,
        limit_gib: float = DEFAULT_LIMIT_GIB,
    ) -> None:
        super().__init__(network, images, rows, precision=precision)
        self.cells = cells
        self.views = 1 + cells**2
        self._locations = lattice(cells).to(network.device)
        self._type = precision_type(precision)
        self._map_size = int(np.prod(network.feature_shape))
        record_bytes = self._type.itemsize * (self._map_size + network.vector_size)
        self._check_size(record_bytes, limit_gib)
        description = describe(network, images, self.image_size, cells, precision)
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file():
            folder /= digest(description)[:32]
        self.store = RecordStore(folder, description, len(images) * self.views, record_bytes)
        if self.store.is_new:
            Console(soft_wrap=True, highlight=False, markup=False).print(self.summary())

    def summary(self) -> str:
        """One line: what the store is of, and what it takes."""
        most = RecordStore.most_bytes(self.store.count, self.store.record_bytes)
        return (
            f"{self.store.folder}: features of {len(self.images)} images at {self.cells}×"
            f"{self.cells} locations, {self.precision}; {_gib(self.store.bytes_on_disk)} of at "
            f"most {_gib(most)} on disk"
        )

    def snap(self, locations: Tensor) -> Tensor:
        return self._locations[nearest_cell(locations, self.cells)]

    def focus(self, rows: Numbers, locations: Tensor, step: Step) -> Step:
        check_locations(locations, len(rows))
        cells = nearest_cell(locations, self.cells)
        snapped = self._locations[cells]
        numbers = self._indices[rows] * self.views + 1 + cells.cpu().numpy()

        def encode(missing: Numbers) -> Features:
            self._read(rows[missing])
            there = snapped[self._on_device(missing)]
            return self._encode_patches(self._pixels, there, self._on_device(rows[missing]))

        features = self._serve(numbers, encode)
        return self.network.go_on(features, snapped, step, self.image_size)

    def glances(self, batch_size: int = 256) -> Iterator[Step]:
        for start in range(0, len(self.images), batch_size):
            indices = np.arange(start, min(start + batch_size, len(self.images)))
            encode = partial(self._encode_images, indices)
            yield self.network.begin(self._serve(indices * self.views, encode))

    def fill(self, indices: Numbers, batch_size: int = 256) -> None:
        """Compute what is missing of images (B,), ``batch_size`` patches at once."""
        numbers = indices[:, None] * self.views + np.arange(self.views)
        there = self.store.read(numbers.ravel())[1].reshape(numbers.shape)
        lacking = np.flatnonzero(~there.all(axis=1))
        if len(lacking) == 0:
            return
        numbers, there = numbers[lacking], there[lacking]
        pixels = self.images[indices[lacking]].to(self.network.device)
        glanced = np.flatnonzero(~there[:, 0])
        if len(glanced):
            features = self._encode_glances(pixels[self._on_device(glanced)])
            self.store.write(numbers[glanced, 0], self._packed(features))
        rows, cells = np.nonzero(~there[:, 1:])
        for start in range(0, len(rows), batch_size):
            row, cell = rows[start : start + batch_size], cells[start : start + batch_size]
            locations = self._locations[self._on_device(cell)]
            features = self._encode_patches(pixels, locations, self._on_device(row))
            self.store.write(numbers[row, 1 + cell], self._packed(features))

    def _glance(self, rows: Numbers) -> Step:
        numbers = self._indices[rows] * self.views
        features = self._serve(numbers, lambda missing: self._encode_rows(rows[missing]))
        return self.network.begin(features)

    def _encode_images(self, indices: Numbers, missing: Numbers) -> Features:
        return self._encode_glances(self.images[indices[missing]].to(self.network.device))

    def _serve(self, numbers: Numbers, encode: Callable[[Numbers], Features]) -> Features:
        """The features in some records; ``encode`` makes those of the positions that lack them."""
        records, there = self.store.read(numbers)
        if not there.all():
            missing = np.flatnonzero(~there)
            made = self._packed(encode(missing))
            self.store.write(numbers[missing], made)
            if len(missing) == len(numbers):
                records = made
            else:
                records[missing] = made
        return self._unpacked(records)

    def _packed(self, features: Features) -> npt.NDArray[np.uint8]:
        """Features of B views as records, (B, bytes)."""
        both = torch.cat([features.map.flatten(1), features.vector], dim=1).to(self._type)
        return both.cpu().view(torch.uint8).numpy()

    def _unpacked(self, records: npt.NDArray[np.uint8]) -> Features:
        both = torch.from_numpy(records).view(self._type).to(self.network.device).float()
        feature_map = both[:, : self._map_size].view(len(both), *self.network.feature_shape)
        return Features(feature_map, both[:, self._map_size :])

    def _check_size(self, record_bytes: int, limit_gib: float) -> None:
        most = RecordStore.most_bytes(len(self.images) * self.views, record_bytes)
        if most > limit_gib * 2**30:
            raise ValueError(
                f"the features of {len(self.images)} images at {self.cells}×{self.cells} locations "
                f"may take {_gib(most)}, over the limit of {limit_gib:g} GiB; choose fewer cells, "
                "fewer images or bfloat16, or raise the limit"
            )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
