"""The layout of features in the entries of a store."""

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gfnet_env import rows
from gfnet_env.features.store import Entries
from gfnet_env.models.base import Features, Model, blank_views, glance_view
from gfnet_env.precision import Precision, precision_type

_WORD = 8


class Layout:
    """The features of one view in an entry: tensor after tensor, each in whole words.

    Args:
        example: Features of one view.
        kept: Type of floating-point numbers in the store; other numbers keep their type.

    Attributes:
        shapes: Shape of each tensor, for one view.
        words: W, size of the features, in words of 8 bytes.
    """

    def __init__(self, example: Features, kept: torch.dtype) -> None:
        self._example = example
        tensors = rows.tensors(example)
        self.shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
        self._types = [kept if each.is_floating_point() else each.dtype for each in tensors]
        self._words = [
            -(-math.prod(shape) * kind.itemsize // _WORD)
            for shape, kind in zip(self.shapes, self._types, strict=True)
        ]
        self.words = sum(self._words)

    @classmethod
    @torch.no_grad()
    def of_overviews(cls, model: Model, precision: Precision) -> Self:
        """The layout of a model's features of overviews."""
        views = blank_views(model, glance_view(model))
        return cls(model.encode_overview(views), precision_type(precision))

    @classmethod
    @torch.no_grad()
    def of_windows(cls, model: Model, precision: Precision) -> Self:
        """The layout of a model's features of windows."""
        return cls(model.encode_window(blank_views(model, model.view)), precision_type(precision))

    @property
    def bytes(self) -> int:
        """Size of the features of one view."""
        return _WORD * self.words

    def pack(self, features: Features) -> Entries:
        """Features of B views as entries, (B, W)."""
        tensors = rows.tensors(features)
        entries = np.zeros((len(tensors[0]), self.words), dtype=np.uint64)
        start = 0
        for tensor, kind, words in zip(tensors, self._types, self._words, strict=True):
            content = tensor.to(kind).reshape(len(tensor), -1).cpu().view(torch.uint8).numpy()
            entries[:, start : start + words].view(np.uint8)[:, : content.shape[1]] = content
            start += words
        return entries

    def unpack(self, entries: Entries, device: torch.device) -> Features:
        """The features in entries (B, W or more), floating-point numbers as float32."""
        everything = torch.from_numpy(entries.view(np.int64)).to(device)
        parts = everything[:, : self.words].split(self._words, dim=1)
        each = iter(zip(parts, self.shapes, self._types, strict=True))

        def unpacked(_: Tensor) -> Tensor:
            part, shape, kind = next(each)
            numbers = part.view(kind)[:, : math.prod(shape)].view(len(part), *shape)
            return numbers.float() if kind.is_floating_point else numbers

        return rows.map_tensors(unpacked, self._example)
