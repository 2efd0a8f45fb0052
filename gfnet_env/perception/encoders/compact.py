"""A small encoder for small inputs."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.perception.encoders.base import Encoder, Features


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
        super().__init__()
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
        return Features(feature_map, self.pool(feature_map))

    def pool(self, feature_map: Tensor) -> Tensor:
        """The vector, (B, V), of the last block's map."""
        # The strongest response, not the mean: an object fills few cells of a glance. Pooling goes
        # back through it many times faster than ``amax``, which shares the gradient among equals.
        return functional.adaptive_max_pool2d(feature_map, 1).flatten(1)

    def head_module(self) -> nn.Module:
        return self.classifier
