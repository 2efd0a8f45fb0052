"""Features that the encoders make on demand."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env import rows
from gfnet_env.features.base import Indices
from gfnet_env.images.base import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import Features, Model, glance_view
from gfnet_env.precision import Precision, autocast, precision_type, with_weights_in

# Pixels that are encoded at once without gradients: a layer's output takes many bytes for each.
_PIXELS = 2**23
# Glances to be kept that are encoded at once.
_KEPT_TOGETHER = 16


class LiveFeatures:
    """The encoders, called once for all images of a step.

    Without gradients, views of more than eight million pixels together are encoded in parts, so
    that memory does not grow with their number.

    In float32, gradients flow through the encoders and a caller's ``torch.autocast`` applies,
    unless glances are kept.

    Args:
        model: See ``FeatureSource``.
        images: See ``FeatureSource``.
        precision: Precision of the encoders. With bfloat16, a copy of the model, made at
            construction, encodes; its features are float32 numbers rounded to bfloat16.
        keep_glances: Whether to keep the features of every overview on the model's device, so that
            no overview is encoded twice. The encoder must not change then.

    Attributes:
        overviews: Pixels of the overviews encoded last; None at first.
        windows: Number of windows encoded so far.

    Raises:
        ValueError: The precision is unknown; or the model is in training mode although features are
            kept or come from a copy.
    """

    overviews: Tensor | None = None
    windows: int = 0

    def __init__(
        self,
        model: Model,
        images: ImageSet,
        *,
        precision: Precision = "float32",
        keep_glances: bool = False,
    ) -> None:
        self._type = precision_type(precision)
        if keep_glances or precision != "float32":
            check_evaluation_mode(model)
        self.model, self.images = model, images
        self.precision: Precision = precision
        self._encoding = model
        if isinstance(model, nn.Module):
            self._encoding = with_weights_in(model, precision)
        # Which glances are kept, and the features of those.
        self._kept = np.zeros(len(images), dtype=bool) if keep_glances else None
        self._glances: Features = None

    def overview(self, indices: Indices) -> Features:
        if self._kept is None:
            return self._encode_overview(indices)
        unknown = np.unique(indices[~self._kept[indices]])
        for first in range(0, len(unknown), _KEPT_TOGETHER):
            # Always as many, the last one repeatedly: in batches of other sizes, the last bits of
            # features may differ, and so would what is learned after a resume.
            some = unknown[first : first + _KEPT_TOGETHER]
            batch = np.pad(some, (0, _KEPT_TOGETHER - len(some)), mode="edge")
            self._keep(batch, _as_type(self._encode_overview(batch), self._type))
            self._kept[some] = True
        chosen = torch.from_numpy(indices).to(self.model.device)
        return _as_type(rows.select(self._glances, chosen), torch.float32)

    def window(self, indices: Indices, looks: Look) -> Features:
        views = self.images.window(indices, looks, self.model.view)
        self.windows += len(views)
        return self._encode(self._encoding.encode_window, views)

    def snap(self, looks: Look) -> Look:
        return looks

    def _encode_overview(self, indices: Indices) -> Features:
        self.overviews = self.images.overview(indices, glance_view(self.model))
        return self._encode(self._encoding.encode_overview, self.overviews)

    def _encode(self, encode: Callable[[Tensor, bool], Features], views: Tensor) -> Features:
        views = views.to(self.model.device)
        together = max(1, _PIXELS // views.shape[2:].numel())
        if len(views) > together and not (torch.is_grad_enabled() or self.model.training):
            return rows.concatenate([self._encode(encode, each) for each in views.split(together)])
        if self.precision == "float32" and self._kept is None:
            return encode(views, self.images.normalised)
        with torch.no_grad(), autocast(self.model.device, self.precision):
            features = encode(views, self.images.normalised)
        # Autocast leaves some results in float32.
        return _as_type(_as_type(features, self._type), torch.float32)

    def _keep(self, indices: Indices, features: Features) -> None:
        if self._glances is None:
            # Empty memory costs nothing on a CPU until it is written. Memory from an inference mode
            # could not be written outside it.
            with torch.inference_mode(mode=False):
                self._glances = rows.map_tensors(
                    lambda tensor: tensor.new_empty(len(self.images), *tensor.shape[1:]), features
                )
        chosen = torch.from_numpy(indices).to(self.model.device)
        for kept, new in zip(rows.tensors(self._glances), rows.tensors(features), strict=True):
            kept[chosen] = new


def check_evaluation_mode(model: Model) -> None:
    """Raise ``ValueError`` in training mode, in which an image's features depend on its batch."""
    if model.training:
        raise ValueError("features must come from a model in evaluation mode; call its eval()")


def _as_type(features: Features, kind: torch.dtype) -> Features:
    """Convert the floating-point tensors of features to a type."""
    return rows.map_tensors(
        lambda tensor: tensor.to(kind) if tensor.is_floating_point() else tensor, features
    )
