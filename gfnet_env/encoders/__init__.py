"""Encoders, which turn views into a feature map and a feature vector."""

from gfnet_env.encoders.base import Encoder, Features, ModuleEncoder
from gfnet_env.encoders.compact import CompactEncoder
from gfnet_env.encoders.early import EarlyEncoder
from gfnet_env.encoders.registry import ENCODERS, build_encoder, example_features
from gfnet_env.encoders.timm import TimmEncoder
from gfnet_env.encoders.torchvision import TorchvisionEncoder

__all__ = [
    "ENCODERS",
    "CompactEncoder",
    "EarlyEncoder",
    "Encoder",
    "Features",
    "ModuleEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "build_encoder",
    "example_features",
]
