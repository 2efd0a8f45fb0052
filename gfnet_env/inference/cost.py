"""What a prediction costs, in multiply-adds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gfnet_env.env.observation import observation_space
from gfnet_env.perception import GlanceFocusNetwork, StaticNetwork
from gfnet_env.policies.base import Policy, Scene, initial_state


def count_multiply_adds(module: nn.Module | Callable[..., Any], *inputs: Any) -> int:
    """Multiply-adds of one call; of convolutions and matrix products, all else is free.

    Args:
        module: What to call; a module is put into evaluation mode meanwhile.
        inputs: What to call it with; a batch of one gives the cost of one image.
    """
    modules = list(module.modules()) if isinstance(module, nn.Module) else []
    training = [part for part in modules if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
    finally:
        for part in training:
            part.training = True
    # The counter takes a multiply-add for two operations.
    return counter.get_total_flops() // 2


def step_multiply_adds(network: GlanceFocusNetwork) -> tuple[int, int]:
    """Multiply-adds of one image's glance, and of one focus step without its policy."""
    image = _blank_image(network)
    with torch.no_grad():
        step = network.glance(image)
    centre = torch.zeros_like(step.location)
    return (
        count_multiply_adds(network.glance, image),
        count_multiply_adds(network.focus, image, centre, step),
    )


def static_multiply_adds(network: StaticNetwork) -> int:
    """Multiply-adds of one image in a static network."""
    side = network.config.resolution
    device = next(network.parameters()).device
    return count_multiply_adds(network, torch.zeros(1, 3, side, side, device=device).byte())


def policy_multiply_adds(policy: Policy, network: GlanceFocusNetwork) -> int:
    """Multiply-adds of one image's pick of a patch."""
    observation = {
        key: torch.zeros(1, *(space.shape or ()), device=network.device)
        for key, space in observation_space(network).items()
    }
    scene = Scene(network, _blank_image(network), np.zeros(1, dtype=np.int64))
    return count_multiply_adds(policy, observation, initial_state(policy, scene))


def _blank_image(network: GlanceFocusNetwork) -> Tensor:
    """A black image of the size of a patch."""
    shape = (1, 3, network.patch_size, network.patch_size)
    return torch.zeros(shape, dtype=torch.uint8, device=network.device)
