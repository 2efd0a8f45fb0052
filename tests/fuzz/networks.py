"""Small networks, policies and images, which several targets share."""

from functools import cache

import numpy as np
import torch

from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.policies import LearnedPolicy


@cache
def tiny_network() -> GlanceFocusNetwork:
    """An untrained network with 16×16 patches, five classes, two looks and a where-map."""
    torch.manual_seed(0)
    return GlanceFocusNetwork.build(
        encoder="compact:widths=[4,8],strides=[2,2]",
        patch_size=16,
        num_classes=5,
        focus_steps=2,
        where_scales=(1.0, 1.5),
    ).eval()


@cache
def tiny_images() -> ArrayImages:
    """Twelve images of noise, 24×32, five classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 24, 32), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(12) % 5)


def tiny_gfnet() -> EarlyExitGFNet:
    """An assembled network."""
    torch.manual_seed(0)
    return EarlyExitGFNet(tiny_network(), LearnedPolicy.for_model(tiny_network(), (8,)))
