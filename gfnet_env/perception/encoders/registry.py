"""Encoders by name."""

import difflib
import functools
from collections.abc import Callable
from pathlib import Path

from gfnet_env.perception.encoders.base import Encoder
from gfnet_env.perception.encoders.compact import CompactEncoder
from gfnet_env.perception.encoders.timm_encoder import (
    MOBILENETV3_125,
    TIMM_ALIASES,
    TimmEncoder,
    is_timm_name,
)
from gfnet_env.perception.encoders.torchvision_encoder import (
    TorchvisionEncoder,
    is_torchvision_name,
)
from gfnet_env.perception.precision import see_in_float32

_TORCHVISION = "torchvision:"

_OWN: dict[str, Callable[[int], Encoder]] = {
    "compact": CompactEncoder,
    # One more convolution, and more of the image seen by each cell of its map: 19 pixels, not 15.
    "compact-deep": functools.partial(
        CompactEncoder, widths=(32, 64, 64, 128), strides=(2, 1, 2, 1)
    ),
}
# What is neither timm's nor torchvision's: builders that take the number of classes.
_ENCODERS = dict(_OWN)


def register_encoder(name: str, builder: Callable[[int], Encoder]) -> None:
    """Give an encoder of one's own a name, by which networks are then built, saved and loaded.

    A saved network holds the name and the weights, never code: call this before loading it.

    Args:
        name: Any that no encoder has yet; registering the same name again replaces the builder.
        builder: Makes the encoder, such as a ``ModuleEncoder``, for a number of classes. It is
            called once for glances and once for patches, and brings its own initial weights.

    Raises:
        ValueError: The name is that of an encoder of this library, of timm or of torchvision.
    """
    if name in _OWN or name.startswith(_TORCHVISION) or is_timm_name(name):
        raise ValueError(f"there is an encoder {name!r} already; choose another name")
    _ENCODERS[name] = builder


def build_encoder(name: str, num_classes: int, weights: str | Path | None = None) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``compact`` or ``compact-deep`` (see ``CompactEncoder``), the timm name of a
            convolutional network or the GFNet paper's (see ``TimmEncoder``), ``torchvision:NAME``,
            or a name given to ``register_encoder``.
        num_classes: Classes of its own head.
        weights: See ``TimmEncoder`` and ``TorchvisionEncoder``; others take none.

    Raises:
        ValueError: There is no encoder of that name, or it takes no weights.
    """
    encoder = _find(name, num_classes, weights)
    see_in_float32(encoder)
    return encoder


def _find(name: str, num_classes: int, weights: str | Path | None) -> Encoder:
    if name in _ENCODERS:
        if weights is not None:
            raise ValueError(f"the encoder {name!r} has no weights to load, but got {weights}")
        return _ENCODERS[name](num_classes)
    if name.startswith(_TORCHVISION) and is_torchvision_name(name.removeprefix(_TORCHVISION)):
        return TorchvisionEncoder(name.removeprefix(_TORCHVISION), num_classes, weights)
    if is_timm_name(name):
        return TimmEncoder(name, num_classes, weights)
    close = difflib.get_close_matches(name, _known_names(), n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ValueError(
        f"unknown encoder {name!r}; {hint}Known: {', '.join(map(repr, _ENCODERS))}, what "
        "timm.list_models() lists, and torchvision:NAME. Give one of your own to register_encoder "
        "before building or loading its network"
    )


def _known_names() -> list[str]:
    import timm
    from torchvision import models

    torchvision = [f"{_TORCHVISION}{name}" for name in models.list_models(module=models)]
    return [*_ENCODERS, *TIMM_ALIASES, MOBILENETV3_125, *timm.list_models(), *torchvision]
