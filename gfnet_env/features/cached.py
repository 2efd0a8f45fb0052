"""Features at a lattice of looks, computed once and kept on disk."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from gfnet_env import rows
from gfnet_env.digest import digest
from gfnet_env.features.base import Indices
from gfnet_env.features.identity import describe
from gfnet_env.features.layout import Layout
from gfnet_env.features.live import LiveFeatures, check_evaluation_mode
from gfnet_env.features.store import DESCRIPTION, Entries, EntryStore, Numbers
from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look, lattice, nearest_cell
from gfnet_env.models.base import Features, Model, blank_views
from gfnet_env.precision import Precision, autocast, precision_type

# The lattice of 7×7 cells is part of this one.
DEFAULT_CELLS = 13
DEFAULT_FOLDER = Path("runs") / "features"
DEFAULT_LIMIT_GIB = 128.0

# Version of the layout of entries and of their checksums.
_FORMAT = 2


class CachedFeatures:
    """The features of every overview and of windows at a lattice of looks, each computed once.

    A look goes to the nearest location of the lattice and to the nearest scale. There its features
    are those of ``LiveFeatures`` except for the rounding of sums, which depends on how many views
    an encoder is given at once. For the same reason, a run on an empty store and one on a full
    store may differ in the last bits of a number.

    The store has a folder of its own inside ``folder`` for every combination of encoder weights,
    views, precision, lattice and images. Algorithms, runs and processes of one machine share it:
    several may fill it at once, and each may be killed at any moment, see ``EntryStore``. It takes
    room only for what was computed: 4 bytes for each number in float32, 2 in bfloat16. Images are
    read only for what it lacks.

    Args:
        model: See ``FeatureSource``; in evaluation mode. Its encoders must not change from here on.
        images: See ``FeatureSource``.
        cells: Of the lattice along each axis, G.
        scales: Of windows, S of them, each at least 1. An image has 1 + S·G² views, the overview
            among them.
        precision: What the encoders compute in and the store holds.
        folder: Where stores are, or a store.
        limit_gib: What the full store may take, in GiB.

    Raises:
        ValueError: A value is wrong, the model is in training mode, the full store would be over
            the limit, ``folder`` is a store of other features, or the store is damaged.
        OSError: The store cannot be written.
    """

    def __init__(
        self,
        model: Model,
        images: ImageSet,
        *,
        cells: int = DEFAULT_CELLS,
        scales: Sequence[float] = (1.0,),
        precision: Precision = "float32",
        folder: str | Path = DEFAULT_FOLDER,
        limit_gib: float = DEFAULT_LIMIT_GIB,
    ) -> None:
        check_evaluation_mode(model)
        self.model, self.images, self.precision = model, images, precision
        self.cells, self.scales = cells, _sorted(scales)
        self.views = 1 + len(self.scales) * cells**2
        self._live = LiveFeatures(model, images, precision=precision)
        self._looks = _looks(cells, self.scales, model.device)
        kept = precision_type(precision)
        with torch.no_grad():
            self._overview = Layout(model.encode_overview(blank_views(model)), kept)
            self._window = Layout(model.encode_window(blank_views(model)), kept)
        self.store = self._open_store(Path(folder).expanduser(), limit_gib)
        if self.store.is_new:
            Console(soft_wrap=True, highlight=False, markup=False).print(self.summary())

    def summary(self) -> str:
        """One line: what the store is of, and what it takes."""
        most = EntryStore.most_bytes(self.store.count, self.store.words)
        return (
            f"{self.store.folder}: features of {self._extent()}, {self.precision}; "
            f"{_gib(self.store.bytes_on_disk)} of at most {_gib(most)} on disk"
        )

    def overview(self, indices: Indices) -> Features:
        return self._serve(indices * self.views, self._overview)

    def window(self, indices: Indices, looks: Look) -> Features:
        looks.check(len(indices))
        views = 1 + self._nearest(looks).cpu().numpy()
        return self._serve(indices * self.views + views, self._window)

    def snap(self, looks: Look) -> Look:
        return dataclasses.replace(rows.select(self._looks, self._nearest(looks)), stop=looks.stop)

    def fill(self, indices: Indices, batch_size: int = 256) -> None:
        """Compute what is missing of some images, ``batch_size`` views at once."""
        numbers = (indices[:, None] * self.views + np.arange(self.views)).ravel()
        missing = numbers[~self.store.read(numbers)[1]]
        is_overview = missing % self.views == 0
        kinds = ((missing[is_overview], self._overview), (missing[~is_overview], self._window))
        for lacking, layout in kinds:
            for start in range(0, len(lacking), batch_size):
                self._compute(lacking[start : start + batch_size], layout)

    def _serve(self, numbers: Numbers, layout: Layout) -> Features:
        """The features in some entries, all of overviews or all of windows."""
        entries, there = self.store.read(numbers)
        if not there.all():
            made = self._compute(numbers[~there], layout)
            entries[~there, : layout.words] = made
        return layout.unpack(entries, self.model.device)

    def _compute(self, numbers: Numbers, layout: Layout) -> Entries:
        """Encode and store what some entries hold, all of overviews or all of windows."""
        indices, views = np.divmod(numbers, self.views)
        # Whatever precision the caller works in, the store holds its own.
        with torch.no_grad(), autocast(self.model.device, self.precision):
            if layout is self._overview:
                features = self._live.overview(indices)
            else:
                chosen = torch.from_numpy(views - 1).to(self.model.device)
                features = self._live.window(indices, rows.select(self._looks, chosen))
        entries = layout.pack(features)
        self.store.write(numbers, entries)
        return entries

    def _nearest(self, looks: Look) -> Tensor:
        """Which of all looks of an image are nearest to given ones, (B,) int64."""
        known = torch.tensor(self.scales, device=looks.scale.device)
        scale = (looks.scale[:, None].log() - known.log()).abs().argmin(dim=1)
        return scale * self.cells**2 + nearest_cell(looks.location, self.cells)

    def _open_store(self, folder: Path, limit_gib: float) -> EntryStore:
        count = len(self.images) * self.views
        words = max(self._overview.words, self._window.words)
        most = EntryStore.most_bytes(count, words)
        if most > limit_gib * 2**30:
            raise ValueError(
                f"the features of {self._extent()} may take {_gib(most)}, over the limit of "
                f"{limit_gib:g} GiB; choose fewer cells, scales or images, or bfloat16, or raise "
                "the limit"
            )
        description = {
            "format": _FORMAT,
            "precision": self.precision,
            "cells": self.cells,
            "scales": list(self.scales),
            "feature shapes": [
                [list(shape) for shape in each.shapes] for each in (self._overview, self._window)
            ],
            **describe(self.model, self.images),
        }
        if not (folder / DESCRIPTION).is_file():
            folder /= digest(description)[:32]
        return EntryStore(folder, description, count, words)

    def _extent(self) -> str:
        scales = f" and {len(self.scales)} scales" if len(self.scales) > 1 else ""
        return f"{len(self.images)} images at {self.cells}×{self.cells} locations{scales}"


def _sorted(scales: Sequence[float]) -> tuple[float, ...]:
    """Scales in ascending order, each once."""
    if not scales or not all(1 <= scale < np.inf for scale in scales):
        raise ValueError(f"scales must be finite and at least 1, not {list(scales)}")
    return tuple(sorted({float(scale) for scale in scales}))


def _looks(cells: int, scales: Sequence[float], device: torch.device) -> Look:
    """All looks of one image, (S·G²,): location after location, scale after scale."""
    location = lattice(cells).repeat(len(scales), 1)
    scale = torch.tensor(scales).repeat_interleave(cells**2)
    return rows.to_device(Look.at(location, scale), device)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
