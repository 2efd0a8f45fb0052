"""Glance-and-focus image classification: an environment, a network, an early exit.

``import gfnet_env`` registers ``gfnet_env/GlanceFocus-v0`` with Gymnasium.
"""

from gymnasium.envs.registration import register

from gfnet_env.data import ArrayImages, load_images
from gfnet_env.inference import EarlyExitGFNet, count_multiply_adds, load_official
from gfnet_env.perception import GlanceFocusNetwork, Step

register(
    id="gfnet_env/GlanceFocus-v0",
    entry_point="gfnet_env.env.single:GlanceFocusEnv",
    vector_entry_point="gfnet_env.env.vector:GlanceFocusVectorEnv",
)

__all__ = [
    "ArrayImages",
    "EarlyExitGFNet",
    "GlanceFocusNetwork",
    "Step",
    "count_multiply_adds",
    "load_images",
    "load_official",
]
