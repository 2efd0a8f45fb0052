"""What sees: patch geometry, encoders, classifiers, and the network that joins them."""

from gfnet_env.perception.classifiers import Classifier
from gfnet_env.perception.encoders import (
    Encoder,
    Features,
    ModuleEncoder,
    build_encoder,
    register_encoder,
)
from gfnet_env.perception.network import GlanceFocusNetwork, NetworkConfig, Step
from gfnet_env.perception.static import StaticConfig, StaticNetwork, load_static_networks

__all__ = [
    "Classifier",
    "Encoder",
    "Features",
    "GlanceFocusNetwork",
    "ModuleEncoder",
    "NetworkConfig",
    "StaticConfig",
    "StaticNetwork",
    "Step",
    "build_encoder",
    "load_static_networks",
    "register_encoder",
]
