"""Encoders of timm, by the names that timm or the GFNet paper has for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gfnet_env.perception.encoders.base import Encoder, Features
from gfnet_env.perception.encoders.weights import load_weights_file

# The paper's names of what timm calls otherwise.
TIMM_ALIASES = {
    "regnety_600m": "regnety_006",
    "regnety_800m": "regnety_008",
    "regnety_1.6g": "regnety_016",
}
# A width that timm has the class for, but neither a name nor weights.
MOBILENETV3_125 = "mobilenetv3_large_125"


class TimmEncoder(Encoder):
    """Any convolutional network of timm, and MobileNetV3-Large of width 1.25.

    The vector is what the network's last linear layer takes in: the pooled map, or what a hidden
    layer makes of it (1,280 features of the 960 channels of MobileNetV3-Large).

    Args:
        name: Its timm name, or the paper's: ``regnety_600m``, ``regnety_800m``, ``regnety_1.6g``,
            ``mobilenetv3_large_125``.
        num_classes: Classes of its own head; the head of a file is taken where it fits.
        weights: None (random), ``pretrained`` (downloaded), or a file (safetensors, or a ``.pth``
            that is read without running pickled code).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network is not convolutional, does not end in one linear layer or cannot be
            built, or its weights do not fit or cannot be had.
    """

    def __init__(self, name: str, num_classes: int, weights: str | Path | None = None) -> None:
        from timm.data.config import resolve_model_data_config

        try:
            model = _create_model(name, num_classes, pretrained=weights == "pretrained")
        # The hub client raises errors of a dozen kinds for what goes wrong in a download.
        except Exception as error:
            if weights != "pretrained":
                raise ValueError(f"timm cannot build {name!r}: {error}") from error
            raise ValueError(
                f"cannot get pretrained weights of {name}: {error}; download them elsewhere and "
                "give the file"
            ) from error
        if getattr(model, "output_fmt", "NCHW") != "NCHW":
            raise ValueError(
                f"encoder {name!r} has feature maps in the layout {model.output_fmt}; "
                "choose a convolutional network"
            )
        if not isinstance(model.get_classifier(), nn.Linear):
            raise ValueError(
                f"encoder {name!r} does not end in one linear layer; choose another network"
            )
        if weights is not None and weights != "pretrained":
            heads = _as_tuple(model.pretrained_cfg["classifier"])
            load_weights_file(model, Path(weights), heads)
        data = resolve_model_data_config(model)
        super().__init__(data["mean"], data["std"])
        self.model: Any = model

    def encode(self, images: Tensor) -> Features:
        feature_map = self.model.forward_features(images)
        return Features(feature_map, self.model.forward_head(feature_map, pre_logits=True))

    def head_module(self) -> nn.Module:
        return self.model.get_classifier()


def is_timm_name(name: str) -> bool:
    """Whether ``TimmEncoder`` knows an encoder of this name."""
    import timm

    # A timm name may carry the tag of its weights: NAME.TAG.
    return name in (*TIMM_ALIASES, MOBILENETV3_125) or timm.is_model(name.partition(".")[0])


def _create_model(name: str, num_classes: int, *, pretrained: bool) -> Any:
    import timm

    if name != MOBILENETV3_125:
        name = TIMM_ALIASES.get(name, name)
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    if pretrained:
        raise ValueError("nobody has published any")
    from timm.models import get_pretrained_cfg
    from timm.models.mobilenetv3 import _gen_mobilenet_v3

    preprocessing = get_pretrained_cfg("mobilenetv3_large_100")
    return _gen_mobilenet_v3(name, 1.25, num_classes=num_classes, pretrained_cfg=preprocessing)


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
