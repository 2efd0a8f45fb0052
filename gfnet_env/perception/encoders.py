"""Encoders: from an image batch to a feature map and a feature vector."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gfnet_env.files import load_tensors

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """What an encoder makes of a batch.

    Attributes:
        map: Before pooling, (B, C, h, w).
        vector: After pooling, (B, V): what a classifier takes in.
    """

    map: Tensor
    vector: Tensor


class Encoder(nn.Module, ABC):
    """Turns pixels into features, and owns the normalisation that its weights expect.

    Args:
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # In the units of uint8 pixels, so that normalising is one subtraction and one division.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Features:
        """Normalise and encode.

        Args:
            images: (B, 3, H, W) uint8.
        """
        return self.encode((images - self.mean) / self.std)

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Encode normalised float images, (B, 3, H, W)."""

    @abstractmethod
    def head_module(self) -> nn.Module:
        """The module that makes the encoder's own logits of its feature vector."""

    def head(self, vector: Tensor) -> Tensor:
        """The encoder's own logits, (B, K), from its feature vector, (B, V)."""
        return self.head_module()(vector)


class CompactEncoder(Encoder):
    """A small convolutional network for small inputs: it shrinks them 4 times instead of 32.

    Args:
        num_classes: Classes of its own head.
        widths: Channels of its blocks, each a 3×3 convolution, batch norm and ReLU.
        strides: Strides of its blocks.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (32, 64, 128),
        strides: Sequence[int] = (2, 2, 1),
    ) -> None:
        super().__init__(_IMAGENET_MEAN, _IMAGENET_STD)
        channels = [3, *widths]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                )
                for before, after, stride in zip(channels, widths, strides, strict=False)
            )
        )
        self.classifier = nn.Linear(widths[-1], num_classes)

    def encode(self, images: Tensor) -> Features:
        feature_map = self.blocks(images)
        # The strongest response, not the mean: an object fills few cells of a glance.
        return Features(feature_map, feature_map.amax(dim=(2, 3)))

    def head_module(self) -> nn.Module:
        return self.classifier


class TimmEncoder(Encoder):
    """Any convolutional network of timm.

    Args:
        name: Its timm name.
        num_classes: Classes of its own head; the head of a file is taken where it fits.
        weights: None (random), ``pretrained`` (downloaded), or a file (safetensors, or a ``.pth``
            that is read without running pickled code).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network is not convolutional, or its weights do not fit or cannot be had.
    """

    def __init__(self, name: str, num_classes: int, weights: str | Path | None = None) -> None:
        import timm
        from timm.data.config import resolve_model_data_config

        try:
            model = timm.create_model(
                name, pretrained=weights == "pretrained", num_classes=num_classes
            )
        # The hub client raises errors of a dozen kinds for what goes wrong in a download.
        except Exception as error:
            if weights != "pretrained":
                raise
            raise ValueError(
                f"cannot get pretrained weights of {name}: {error}; download them elsewhere and "
                "give the file"
            ) from error
        if getattr(model, "output_fmt", "NCHW") != "NCHW":
            raise ValueError(
                f"encoder {name!r} has feature maps in the layout {model.output_fmt}; "
                "choose a convolutional network"
            )
        if weights is not None and weights != "pretrained":
            _load_file(model, Path(weights))
        data = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
        super().__init__(data["mean"], data["std"])
        self.model: Any = model

    def encode(self, images: Tensor) -> Features:
        feature_map = self.model.forward_features(images)
        return Features(feature_map, self.model.forward_head(feature_map, pre_logits=True))

    def head_module(self) -> nn.Module:
        return self.model.get_classifier()


def _load_file(model: Any, path: Path) -> None:
    """Load a file of weights into a timm model; of all it holds only the head may not fit."""
    from timm.models import load_state_dict

    if not path.is_file():
        raise FileNotFoundError(
            f"there is no weights file {path}; give 'pretrained' to download them"
        )
    try:
        tensors = load_state_dict(str(path), device="cpu")
    # Whatever a damaged file makes safetensors, zipfile or the unpickler say.
    except Exception as error:
        raise ValueError(f"cannot read the weights file {path}: {error}") from error
    wanted = model.state_dict()
    heads = tuple(f"{head}." for head in _as_tuple(model.pretrained_cfg["classifier"]))
    for key in [key for key in tensors if key.startswith(heads)]:
        if key in wanted and tensors[key].shape != wanted[key].shape:
            tensors[key] = wanted[key]
    load_tensors(model, tensors, path)


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def build_encoder(name: str, num_classes: int, weights: str | Path | None = None) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``compact``, or the timm name of a convolutional network.
        num_classes: Classes of its own head.
        weights: See ``TimmEncoder``.

    Raises:
        ValueError: There is no encoder of that name.
    """
    if name == "compact":
        if weights is not None:
            raise ValueError(f"the encoder 'compact' has no weights to load, but got {weights}")
        return CompactEncoder(num_classes)
    import timm

    # A timm name may carry the tag of its weights: NAME.TAG.
    if not timm.is_model(name.partition(".")[0]):
        close = difflib.get_close_matches(name, ["compact", *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(
            f"unknown encoder {name!r}; {hint}Known: 'compact' and what timm.list_models() lists"
        )
    return TimmEncoder(name, num_classes, weights)
