"""A policy: --policies random learned spiral_policy:Spiral:turn=0.3."""

import math

import torch

from gfnet_env.observations import PlainObservation


class Spiral:
    """Looks further and further from the centre, on a spiral.

    Args:
        turn: Angle from one look to the next, in full turns.
    """

    observation = PlainObservation()

    def __init__(self, turn: float = 0.25):
        self.turn = turn

    def __call__(self, observation, memory):
        number = observation["number"]
        angle, radius = 2 * math.pi * self.turn * number, number / (1 + number)
        return radius * torch.cat([angle.sin(), angle.cos()], dim=1), memory
