"""Glance-and-focus image classification: environments, models and an early-exit network.

``import gfnet_env`` registers ``gfnet_env/GlanceFocus-v0`` with Gymnasium.
"""

from gymnasium.envs.registration import register

from gfnet_env.images import ArrayImages, load_images
from gfnet_env.inference import EarlyExitGFNet, load_official
from gfnet_env.looks import Look
from gfnet_env.models import GlanceFocusNetwork, count_multiply_adds
from gfnet_env.zoo import pretrained

register(
    id="gfnet_env/GlanceFocus-v0",
    entry_point="gfnet_env.env.single:GlanceFocusEnv",
    vector_entry_point="gfnet_env.env.vector:GlanceFocusVectorEnv",
)

__all__ = [
    "ArrayImages",
    "EarlyExitGFNet",
    "GlanceFocusNetwork",
    "Look",
    "count_multiply_adds",
    "load_images",
    "load_official",
    "pretrained",
]
