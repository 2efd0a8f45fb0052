"""An encoder: --encoder edge_encoder:Edges:width=8."""

from torch import nn

from gfnet_env.encoders import Encoder, Features


class Edges(Encoder):
    """Two convolutions.

    Args:
        num_classes: Number of classes of its own head.
        width: Number of channels of its map.
    """

    def __init__(self, num_classes: int, width: int = 8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2)
        )
        self.linear = nn.Linear(width, num_classes)

    def encode(self, images):
        found = self.body(images)
        return Features(found, found.mean(dim=(2, 3)))

    def head_module(self):
        return self.linear
