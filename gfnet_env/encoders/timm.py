"""Encoders of timm, by their names in timm or in the GFNet paper."""

import inspect
import math
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gfnet_env.contracts import explained
from gfnet_env.encoders.base import Encoder, Features
from gfnet_env.encoders.weights import Tensors, downloaded, load_timm_weights
from gfnet_env.registry import convert, split_items

# The paper's names, and timm's.
_ALIASES = {
    "regnety_600m": "regnety_006",
    "regnety_800m": "regnety_008",
    "regnety_1.6g": "regnety_016",
}
# timm can build this width, but has no name and no weights for it.
_MOBILENETV3_125 = "mobilenetv3_large_125"


class TimmEncoder(Encoder):
    """Any timm network that ends in one linear layer, and MobileNetV3-Large of width 1.25.

    The vector is the input of that layer: the pooled map, the output of a hidden layer (1,280
    features from the 960 channels of MobileNetV3-Large), or the class token. For a transformer, the
    map holds the tokens at their places, without the tokens that have no place.

    Args:
        name: Its timm name, or the paper's: ``regnety_600m``, ``regnety_800m``, ``regnety_1.6g``,
            ``mobilenetv3_large_125``.
        num_classes: Number of classes of its own head. A file of weights fills the head if it fits.
        weights: None (random), ``pretrained`` (downloaded), or a file (safetensors, or a ``.pth``
            that is read without running pickled code). Positional embeddings are interpolated.
        patch_size: P, side of the views. Networks for one fixed size are built for P; None means
            the size of their weights.
        options: Further arguments of ``timm.create_model``, such as ``depth=2``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network does not end in one linear layer or cannot be built, or its weights
            do not fit or are not available.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        weights: str | Path | None = None,
        patch_size: int | None = None,
        **options: Any,
    ) -> None:
        from timm.data.config import resolve_model_data_config

        pretrained = weights == "pretrained"
        with downloaded(name) if pretrained else explained(f"timm cannot build {name!r}"):
            resized = _resized(name, patch_size)
            model = _create(name, num_classes, pretrained, resized | options)
        _check(model, name, patch_size if resized else None)
        if weights is not None and not pretrained:
            adapt = (lambda tensors: _interpolated(tensors, model)) if resized else None
            load_timm_weights(model, weights, adapt)
        data = resolve_model_data_config(model)
        super().__init__(data["mean"], data["std"])
        self.model: Any = model

    def encode(self, views: Tensor) -> Features:
        features = self.model.forward_features(views)
        return Features(self._as_map(features), self.model.forward_head(features, pre_logits=True))

    def head_module(self) -> nn.Module:
        return self.model.get_classifier()

    def _as_map(self, features: Tensor) -> Tensor:
        """(B, C, h, w) of a map in any layout, or of tokens (B, L, C)."""
        if features.ndim == 4:
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if last else features
        if features.ndim != 3:
            return features
        count = features.shape[1]
        # If the network does not say how many tokens have no place, the others form a square.
        prefix = getattr(self.model, "num_prefix_tokens", count - math.isqrt(count) ** 2)
        side = math.isqrt(count - prefix)
        if side == 0 or side**2 != count - prefix:
            raise ValueError(
                f"the {count - prefix} tokens of the encoder {type(self.model).__name__} do "
                "not form a square map; choose another network"
            )
        return features[:, prefix:].transpose(1, 2).unflatten(2, (side, side))


def is_timm_name(name: str) -> bool:
    """Whether ``TimmEncoder`` takes this name."""
    import timm

    # A timm name may have the tag of its weights: NAME.TAG.
    return name in (*_ALIASES, _MOBILENETV3_125) or timm.is_model(name.partition(".")[0])


def timm_names() -> list[str]:
    """All names that ``TimmEncoder`` takes, without tags."""
    import timm

    return [*_ALIASES, _MOBILENETV3_125, *timm.list_models()]


def timm_options(text: str, spec: str) -> dict[str, Any]:
    """Read arguments of ``timm.create_model`` from text such as ``depth=2,num_heads=3``.

    Raises:
        ValueError: The text has another form, or sets classes or weights.
    """
    import timm

    # A spec may come from a file, and a file must not name other files to read.
    refused = {*inspect.signature(timm.create_model).parameters, "num_classes", "in_chans"}
    options: dict[str, Any] = {}
    for item in split_items(text):
        key, sign, value = item.partition("=")
        if not sign or key in options or key in refused or key.startswith("pretrained"):
            raise ValueError(
                f"the encoder {spec!r} takes each argument of the network once, such as depth=2, "
                f"not {item!r}"
            )
        options[key] = convert(value, Any, key)
    return options


def _resized(name: str, patch_size: int | None) -> dict[str, Any]:
    """The argument that builds a network of one fixed size for another size, if needed."""
    from timm.models import get_pretrained_cfg

    made_for = get_pretrained_cfg(_ALIASES.get(name, name))
    if patch_size is None or made_for is None or not made_for.fixed_input_size:
        return {}
    return {} if made_for.input_size[-1] == patch_size else {"img_size": patch_size}


def _create(name: str, num_classes: int, pretrained: bool, options: dict[str, Any]) -> Any:
    import timm
    from timm.models import get_pretrained_cfg
    from timm.models.mobilenetv3 import _gen_mobilenet_v3

    if name != _MOBILENETV3_125:
        name = _ALIASES.get(name, name)
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
    if pretrained:
        raise ValueError("nobody has published any")
    config = get_pretrained_cfg("mobilenetv3_large_100")
    return _gen_mobilenet_v3(name, 1.25, num_classes=num_classes, pretrained_cfg=config, **options)


def _check(model: Any, name: str, patch_size: int | None) -> None:
    """Raises ``ValueError`` if the head is not one layer or tokens do not fill the views."""
    # What timm makes of features_only has no head.
    if not (hasattr(model, "get_classifier") and isinstance(model.get_classifier(), nn.Linear)):
        raise ValueError(
            f"encoder {name!r} does not end in one linear layer; choose another network"
        )
    side = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    side = side if isinstance(side, int) else side[0]
    if patch_size is not None and patch_size % side:
        raise ValueError(
            f"encoder {name!r} cuts views into tokens of {side}×{side} pixels; choose a patch_size "
            f"that is a multiple of {side}, not {patch_size}"
        )


def _interpolated(tensors: Tensors, model: nn.Module) -> Tensors:
    """The tensors of a file, with positional embeddings resized for a model's input."""
    # By timm's convention, this function is in the module that defines the network.
    resize = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return tensors if resize is None else resize(tensors, model)
