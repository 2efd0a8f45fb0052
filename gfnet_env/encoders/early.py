"""The early layers of a timm network: a fine feature map at a small part of the cost."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_env.contracts import explained
from gfnet_env.encoders.base import Encoder, Features
from gfnet_env.encoders.registry import ENCODERS
from gfnet_env.encoders.timm import is_timm_name
from gfnet_env.encoders.weights import downloaded, load_timm_weights


@ENCODERS.register("early")
class EarlyEncoder(Encoder):
    """The layers of a timm network up to one of its feature maps, for glances, which need detail.

    The map is normalised, since the layers that are cut off would have taken one of any scale. The
    vector is the mean and the maximum of each channel, V = 2·C.

    Args:
        name: Its timm name.
        level: Index of the map in timm's list of the network's feature maps. In a network of stages
            their strides are 2, 4, 8, … or 4, 8, 16, …
        num_classes: Number of classes of its own head, K.
        weights: None (random), ``pretrained`` (downloaded), or a file; see ``TimmEncoder``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network cannot be built or cut there, or the weights do not fit.
    """

    def __init__(
        self, name: str, level: int, num_classes: int, weights: str | Path | None = None
    ) -> None:
        import timm
        from timm.data.config import resolve_model_data_config

        # timm would fetch what others, such as hf-hub:OWNER/NAME, name.
        if not is_timm_name(name):
            raise ValueError(f"timm cannot build {name!r}: choose what timm.list_models() lists")
        pretrained = weights == "pretrained"
        with downloaded(name) if pretrained else explained(f"timm cannot build {name!r}"):
            model: Any = timm.create_model(name, pretrained=pretrained)
        if weights is not None and not pretrained:
            load_timm_weights(model, weights)
        with explained(f"timm cannot cut {name!r} at level {level}"):
            levels = model.prune_intermediate_layers([level], prune_norm=True, prune_head=True)
        data = resolve_model_data_config(model)
        super().__init__(data["mean"], data["std"])
        self.model, self._levels = model.eval(), levels
        with torch.no_grad():
            channels = self._map(torch.zeros(1, *data["input_size"])).shape[1]
        self.model.train()
        self.norm = nn.BatchNorm2d(channels)
        self.own_head = nn.Linear(2 * channels, num_classes)

    def encode(self, views: Tensor) -> Features:
        feature_map = self.norm(self._map(views))
        vector = torch.cat([feature_map.mean(dim=(2, 3)), feature_map.amax(dim=(2, 3))], dim=1)
        return Features(feature_map, vector)

    def head_module(self) -> nn.Module:
        return self.own_head

    def _map(self, views: Tensor) -> Tensor:
        maps = self.model.forward_intermediates(
            views,
            indices=self._levels,
            stop_early=True,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        feature_map: Tensor = maps[-1]
        return feature_map
