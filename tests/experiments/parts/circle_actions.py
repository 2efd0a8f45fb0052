"""An action: --actions circle_actions:Circle:radius=0.5."""

import math

import torch

from gfnet_env.actions import BoxActions
from gfnet_env.looks import Look


class Circle(BoxActions):
    """The action is an angle, in half turns, on a circle around the location of the latest look.

    Args:
        radius: Radius of the circle; a picture is 2 wide.
    """

    def __init__(self, radius: float = 0.5):
        super().__init__(1)
        self.radius = radius

    def looks(self, actions, state):
        angle = math.pi * actions
        step = self.radius * torch.cat([angle.sin(), angle.cos()], dim=1)
        return Look.at((state.location + step).clamp(-1, 1))
