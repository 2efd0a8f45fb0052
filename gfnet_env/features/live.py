"""Features that the encoders make whenever they are asked for."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env import rows
from gfnet_env.features.base import Indices
from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, Model
from gfnet_env.precision import (
    Precision,
    autocast,
    check_precision,
    precision_type,
    with_weights_in,
)


class LiveFeatures:
    """The encoders, called once for all images of a step.

    In float32, and unless glances are kept, gradients go through the encoders and a caller's own
    ``torch.autocast`` holds.

    Args:
        model: See ``FeatureSource``.
        images: Likewise.
        precision: What the encoders compute in. In bfloat16 a copy of the model, made now, encodes;
            features are rounded to bfloat16 and returned in float32.
        keep_glances: Whether to keep the features of every overview, on the device of the model, so
            that no image is encoded twice. The encoder of overviews must not change then.

    Raises:
        ValueError: The precision is unknown; or the model is in training mode, and its features are
            to be kept or to come from a copy.
    """

    def __init__(
        self,
        model: Model,
        images: ImageSet,
        *,
        precision: Precision = "float32",
        keep_glances: bool = False,
    ) -> None:
        check_precision(precision)
        if keep_glances or precision != "float32":
            check_evaluation_mode(model)
        self.model, self.images = model, images
        self.precision: Precision = precision
        self._encoding = model
        if isinstance(model, nn.Module):
            self._encoding = with_weights_in(model, precision)
        self._kept = _Glances(len(images), precision) if keep_glances else None

    def overview(self, indices: Indices) -> Features:
        if self._kept is None:
            return self._encode_overview(indices)
        unknown = np.unique(indices[~self._kept.known[indices]])
        if len(unknown):
            self._kept.put(unknown, self._encode_overview(unknown))
        return self._kept.get(indices)

    def window(self, indices: Indices, looks: Look) -> Features:
        views = self.images.window(indices, looks, self.model.view)
        return self._encode(self._encoding.encode_window, views)

    def snap(self, looks: Look) -> Look:
        return looks

    def _encode_overview(self, indices: Indices) -> Features:
        views = self.images.overview(indices, self.model.view)
        return self._encode(self._encoding.encode_overview, views)

    def _encode(self, encode: Callable[[Tensor, bool], Features], views: Tensor) -> Features:
        views = views.to(self.model.device)
        if self.precision == "float32" and self._kept is None:
            return encode(views, self.images.normalised)
        with torch.no_grad(), autocast(self.model.device, self.precision):
            features = encode(views, self.images.normalised)
        # Autocast leaves some results in float32.
        return _as_type(_as_type(features, precision_type(self.precision)), torch.float32)


class _Glances:
    """The features of the overviews of a set, in memory.

    Args:
        count: Images of the set.
        precision: What features have been rounded to, so that they are kept without loss.
    """

    def __init__(self, count: int, precision: Precision) -> None:
        self.known = np.zeros(count, dtype=bool)
        self._type = precision_type(precision)
        self._features: Features = None

    def get(self, indices: Indices) -> Features:
        device = rows.tensors(self._features)[0].device
        chosen = torch.from_numpy(indices).to(device)
        return _as_type(rows.select(self._features, chosen), torch.float32)

    def put(self, indices: Indices, features: Features) -> None:
        features = _as_type(features, self._type)
        if self._features is None:
            # What is never written takes no memory on a CPU.
            count = len(self.known)
            self._features = rows.map_tensors(
                lambda tensor: tensor.new_empty(count, *tensor.shape[1:]), features
            )
        pairs = zip(rows.tensors(self._features), rows.tensors(features), strict=True)
        for kept, tensor in pairs:
            kept[torch.from_numpy(indices).to(kept.device)] = tensor.detach()
        self.known[indices] = True


def check_evaluation_mode(model: Model) -> None:
    """Raises ``ValueError`` in training mode: there, an image's features depend on its batch."""
    if model.training:
        raise ValueError("features are those of a model in evaluation mode; call its eval()")


def _as_type(features: Features, kind: torch.dtype) -> Features:
    """Features whose floating-point tensors have a type; the others stay as they are."""
    return rows.map_tensors(
        lambda tensor: tensor.to(kind) if tensor.is_floating_point() else tensor, features
    )
