"""What a prediction costs, in multiply-adds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gfnet_env.env.observation import observe
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies.base import Policy


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


def cumulative_multiply_adds(network: GlanceFocusNetwork, policy: Policy) -> list[int]:
    """Multiply-adds of one image up to and including each step, T numbers, the glance first."""
    size, device = network.patch_size, network.device
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    centre = torch.zeros(1, 2, device=device)
    with torch.no_grad():
        step = network.eval().glance(image)
    glance = count_multiply_adds(network.glance, image)
    focus = count_multiply_adds(network.focus, image, centre, step)
    focus += count_multiply_adds(policy, observe(step, network.focus_steps), None)
    return [glance + number * focus for number in range(1 + network.focus_steps)]
