"""A small encoder for small views."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, Features
from gfnet_env.encoders.registry import ENCODERS
from gfnet_env.settings import MOST_CLASSES, AtLeast, AtMost, checked


@ENCODERS.register("compact")
class CompactEncoder(Encoder):
    """A small convolutional network for small views: its stride is 4 instead of 32.

    Args:
        num_classes: Number of classes of its own head, K.
        widths: Number of channels of each block (a 3×3 convolution, batch norm and ReLU).
        strides: Stride of each block.
        mean: See ``Encoder``. Zeros suit pictures with a black background: batch norm then has no
            constant to remove.
        std: See ``Encoder``.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (32, 64, 128),
        strides: Sequence[int] = (2, 2, 1),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(mean, std)
        checked("num_classes", num_classes, Annotated[int, AtLeast(1), AtMost(MOST_CLASSES)])
        sizes = tuple[Annotated[int, AtLeast(1), AtMost(10_000)], ...]
        widths, strides = checked("widths", widths, sizes), checked("strides", strides, sizes)
        if len(widths) != len(strides) or not widths:
            raise ValueError(
                "a compact encoder needs a width and a stride of at least 1 for each block, not "
                f"widths {list(widths)} and strides {list(strides)}"
            )
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

    def encode(self, views: Tensor) -> Features:
        feature_map = self.blocks(views)
        return Features(feature_map, self.pool(feature_map))

    def pool(self, feature_map: Tensor) -> Tensor:
        """The vector, (B, V), of the last block's map."""
        # The maximum, not the mean: an object fills few cells of a glance. The backward pass of
        # ``amax`` is many times slower: it shares the gradient among equals.
        return functional.adaptive_max_pool2d(feature_map, 1).flatten(1)

    def head_module(self) -> nn.Module:
        return self.classifier


@ENCODERS.register("compact-deep")
def compact_deep(num_classes: int) -> CompactEncoder:
    """A compact encoder with one more block: its map's cells see 19 pixels of the view, not 15."""
    return CompactEncoder(num_classes, widths=(32, 64, 64, 128), strides=(2, 1, 2, 1))
