"""An action: --actions circle_actions:Circle:radius=0.5."""

import math

import torch

from gfnet_env.actions import BoxActions
from gfnet_env.looks import Look


class Circle(BoxActions):
    """An angle, in half turns: the place at that angle on a circle around the latest look.

    Args:
        radius: Of the circle, where a picture is 2 wide.
    """

    def __init__(self, radius: float = 0.5):
        super().__init__(1)
        self.radius = radius

    def looks(self, actions, state):
        angle = math.pi * actions
        step = self.radius * torch.cat([angle.sin(), angle.cos()], dim=1)
        return Look.at((state.location + step).clamp(-1, 1))
