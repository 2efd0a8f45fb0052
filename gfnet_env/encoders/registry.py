"""Encoders by spec.

A spec is a name in ``ENCODERS``, such as ``compact:widths=[32,64],strides=[2,2]`` or
``torchvision:resnet18``; a name of timm or of the GFNet paper, with arguments for
``timm.create_model``, such as ``vit_tiny_patch16_224:depth=2``; or ``module:NAME`` of your own.

An encoder of your own is a class or a function that makes an ``Encoder``, such as a
``ModuleEncoder``. It may have the parameters ``num_classes``, ``weights`` and ``patch_size``. A
saved network holds the spec and the weights, never code: before you load it, import the module by
``registry.import_parts``.
"""

import difflib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfnet_env.contracts import described
from gfnet_env.encoders.base import Encoder, Features
from gfnet_env.encoders.timm import TimmEncoder, is_timm_name, timm_names, timm_options
from gfnet_env.precision import see_in_float32
from gfnet_env.registry import UNFIT, Registry

ENCODERS: Registry[Encoder] = Registry("encoder", context=("num_classes", "weights", "patch_size"))


def build_encoder(
    spec: str,
    num_classes: int,
    weights: str | Path | None = None,
    *,
    patch_size: int | None = None,
    trusted: bool = True,
) -> Encoder:
    """Build an encoder; the module's docstring describes specs.

    Args:
        spec: Spec of the encoder.
        num_classes: Number of classes of its own head, K.
        weights: See ``TimmEncoder`` and ``TorchvisionEncoder``; most others take none.
        patch_size: Side of the views, P; see ``TimmEncoder``.
        trusted: See ``Registry.build``.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: There is no such encoder, or a parameter or the weights are wrong.
    """
    name, sign, parameters = spec.partition(":")
    if name not in ENCODERS and is_timm_name(name):
        options = timm_options(parameters, spec)
        encoder: Encoder = TimmEncoder(name, num_classes, weights, patch_size, **options)
    elif name not in ENCODERS and not sign:
        raise ValueError(_unknown(name))
    else:
        taken = inspect.signature(ENCODERS.find(spec, trusted=trusted)).parameters
        if weights is not None and "weights" not in taken:
            raise ValueError(f"the encoder {spec!r} has no weights to load, but got {weights}")
        encoder = ENCODERS.build(
            spec, trusted=trusted, num_classes=num_classes, weights=weights, patch_size=patch_size
        )
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"{spec!r} makes a {type(encoder).__name__}; make an Encoder, such as a ModuleEncoder"
        )
    see_in_float32(encoder)
    return encoder


def example_features(encoder: Encoder, size: int, num_classes: int, spec: str) -> Features:
    """Features of two black views, for their shapes.

    Args:
        encoder: Any encoder.
        size: Side of its views.
        num_classes: Number of classes of its own head, K.
        spec: Its spec, for messages.

    Raises:
        ValueError: It does not take such views, or returns anything but a feature map (B, C, h, w),
            a vector (B, V) and logits (B, K).
    """
    try:
        with torch.no_grad():
            features = encoder.eval()(torch.zeros(2, 3, size, size).byte())
            if not isinstance(features, Features):
                raise ValueError(
                    f"encoder {spec!r} must return Features(map, vector), not a "
                    f"{type(features).__name__}"
                )
            _check_part(features.map, "feature map", ("C", "h", "w"), encoder, spec)
            _check_part(features.vector, "vector", ("V",), encoder, spec)
            logits = encoder.head(features.vector)
            _check_part(logits, "head", (num_classes,), encoder, spec)
    # Some encoders assert that views have the size they were made for.
    except UNFIT as error:
        raise ValueError(
            f"encoder {spec!r} does not take {size}×{size} views ({error}); choose "
            "another size of views or encoder"
        ) from error
    finally:
        encoder.train()
    return features


def _check_part(
    value: Any, what: str, shape: tuple[str | int, ...], encoder: Encoder, spec: str
) -> None:
    """Raise ``ValueError`` unless a value is two rows of a shape, some of whose sizes are open."""
    fits = isinstance(value, Tensor) and len(value) == 2 and value.ndim == 1 + len(shape)
    if fits:
        sizes = zip(value.shape[1:], shape, strict=True)
        known = all(size == wanted for size, wanted in sizes if isinstance(wanted, int))
        fits = known and value.dtype == encoder.mean.dtype
    if not fits:
        wanted = ", ".join(map(str, (2, *shape)))
        raise ValueError(
            f"the {what} of encoder {spec!r} must be ({wanted}) {encoder.mean.dtype} for two "
            f"views, not {described(value)}; change the encoder"
        )


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, [*ENCODERS, *timm_names()], n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return (
        f"unknown encoder {name!r}; {hint}Known: {', '.join(ENCODERS)}, what timm.list_models() "
        "lists, and module:NAME of your own"
    )
