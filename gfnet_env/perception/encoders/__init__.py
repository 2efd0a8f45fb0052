"""Encoders: from an image batch to a feature map and a feature vector."""

from gfnet_env.perception.encoders.base import Encoder, Features
from gfnet_env.perception.encoders.module_encoder import ModuleEncoder
from gfnet_env.perception.encoders.registry import build_encoder, register_encoder

__all__ = ["Encoder", "Features", "ModuleEncoder", "build_encoder", "register_encoder"]
