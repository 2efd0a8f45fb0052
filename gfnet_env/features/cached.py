"""Features at a lattice of looks, computed once and kept on disk."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env import rows
from gfnet_env.console import PlainConsole
from gfnet_env.digest import digest, weights_digest
from gfnet_env.features.base import Indices
from gfnet_env.features.layout import Layout
from gfnet_env.features.live import LiveFeatures, check_evaluation_mode
from gfnet_env.features.store import DESCRIPTION, Entries, EntryStore, Numbers
from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look, lattice, nearest_cell
from gfnet_env.models.base import Features, Model, glance_view
from gfnet_env.paths import user_path
from gfnet_env.precision import Precision, autocast

# The lattice of 7×7 cells is part of this one.
DEFAULT_CELLS = 13
DEFAULT_FOLDER = Path("runs") / "features"
DEFAULT_LIMIT_GIB = 128.0

# Version of the layout and the checksums of entries.
_FORMAT = 2


class CachedFeatures:
    """The features of every overview and of windows at a lattice of looks, each computed once.

    A look goes to the nearest location of the lattice and to the nearest scale. The features there
    equal those of ``LiveFeatures``, except for the rounding of sums, which depends on the number of
    views in a batch. So runs on an empty store and on a full store may differ in the last bits of a
    number.

    Each combination of encoder weights, views, precision, lattice and images has a store of its own
    in ``folder``. All runs and processes of a machine share it: several may fill it at once, and
    each may be killed at any moment, see ``EntryStore``. It takes 4 bytes (bfloat16: 2) for each
    number that was computed. Images are read only for features that the store lacks.

    Args:
        model: See ``FeatureSource``; in evaluation mode. Its encoders must not change any more.
        images: See ``FeatureSource``.
        cells: G, cells of the lattice along each axis.
        scales: S scales of windows, each at least 1. An image has 1 + S·G² views.
        precision: Precision of the encoders and the store.
        folder: Folder of all stores, or of one store.
        limit_gib: Maximum size of the full store, in GiB.

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
        self._overview = Layout.of_overviews(model, precision)
        self._window = Layout.of_windows(model, precision)
        self.store = self._open_store(user_path(folder), limit_gib)
        if self.store.is_new:
            PlainConsole(soft_wrap=True, highlight=False).print(self.summary())

    def summary(self) -> str:
        """One line: what the store holds, and its size."""
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
        """Compute the missing features of some images, ``batch_size`` views at once."""
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
            entries[~there, : layout.words] = self._compute(numbers[~there], layout)
        return layout.unpack(entries, self.model.device)

    def _compute(self, numbers: Numbers, layout: Layout) -> Entries:
        """Encode and store some entries, all of overviews or all of windows."""
        indices, views = np.divmod(numbers, self.views)
        # In the store's precision, regardless of the caller's.
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
        """The numbers of the looks of the lattice nearest to given ones, (B,) int64."""
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
            **_origin(self.model, self.images),
        }
        if not (folder / DESCRIPTION).is_file():
            folder /= digest(description)[:32]
        return EntryStore(folder, description, count, words)

    def _extent(self) -> str:
        scales = f" and {len(self.scales)} scales" if len(self.scales) > 1 else ""
        return f"{len(self.images)} images at {self.cells}×{self.cells} locations{scales}"


def _sorted(scales: Sequence[float]) -> tuple[float, ...]:
    """Scales in ascending order, without duplicates."""
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


def _origin(model: Model, images: ImageSet) -> dict[str, Any]:
    """What the features of images depend on, besides the store's settings, as JSON.

    We assume that the code of an encoder, the version of torch and the device change only the
    rounding.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"features of {type(model).__name__} cannot be cached: its weights are not known. Make "
            "it a torch.nn.Module, or take live features"
        )
    names = getattr(model, "encoder_modules", ("",))
    encoders = [model.get_submodule(name) for name in names]
    layers = [type(layer).__name__ for encoder in encoders for layer in encoder.modules()]
    return {
        "encoder layers": digest(layers),
        "encoder weights": digest(*map(weights_digest, encoders)),
        "view": dataclasses.asdict(model.view),
        "glance view": dataclasses.asdict(glance_view(model)),
        "images": images.digest(),
        "image count": len(images),
        "image size": None if images.fixed_size is None else list(images.fixed_size),
    }
