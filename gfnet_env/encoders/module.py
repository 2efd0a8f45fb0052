"""An encoder made of modules of your own."""

from collections.abc import Sequence

from torch import Tensor, nn

from gfnet_env.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, Features


class ModuleEncoder(Encoder):
    """A network of your own as an encoder; see ``gfnet_env.encoders.registry``.

    Args:
        body: Makes a feature map (B, C, h, w) of normalised views (B, 3, P, P).
        head: Makes logits (B, K) of a feature vector (B, V).
        pool: Makes the vector (B, V) of the map; None takes the mean over its cells, V = C.
        mean: Per channel, of pixels in [0, 1]; by default ImageNet's.
        std: Per channel, of pixels in [0, 1]; by default ImageNet's.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        pool: nn.Module | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(mean, std)
        self.body = body
        self.own_head = head
        self.pool = pool or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def encode(self, views: Tensor) -> Features:
        feature_map = self.body(views)
        return Features(feature_map, self.pool(feature_map))

    def head_module(self) -> nn.Module:
        return self.own_head
