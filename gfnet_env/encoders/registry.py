"""Encoders by spec.

A spec is a name in ``ENCODERS``, such as ``compact:widths=[32,64],strides=[2,2]`` or
``torchvision:resnet18``; a name of timm or of the GFNet paper, with arguments for
``timm.create_model``, such as ``vit_tiny_patch16_224:depth=2``; or ``module:NAME`` of your own.

An encoder of your own is a class or a function that makes an ``Encoder``, such as a
``ModuleEncoder``. It may have the parameters ``num_classes``, ``weights`` and ``patch_size``. A
saved network holds the spec and the weights, never code: import the module before you load it.
"""

import difflib
import inspect
from pathlib import Path

from gfnet_env.encoders.base import Encoder
from gfnet_env.encoders.timm import TimmEncoder, is_timm_name, timm_names, timm_options
from gfnet_env.precision import see_in_float32
from gfnet_env.registry import Registry

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


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, [*ENCODERS, *timm_names()], n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return (
        f"unknown encoder {name!r}; {hint}Known: {', '.join(ENCODERS)}, what timm.list_models() "
        "lists, and module:NAME of your own"
    )
