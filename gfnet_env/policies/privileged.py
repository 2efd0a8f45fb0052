"""Bounds to hold a policy against: they are told what no agent may know."""

import torch
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.perception import Step
from gfnet_env.perception.geometry import centred_locations, lattice
from gfnet_env.policies.base import Scene, step_numbers


class TargetPolicy:
    """A perfect locator: the patch centred on the object, at every step."""

    name = "target"

    def start(self, scene: Scene) -> Tensor:
        """The locations of the objects, (B, 2).

        Raises:
            ValueError: The image set does not know where its objects are.
        """
        if scene.boxes is None:
            raise ValueError(
                "the policy 'target' needs images whose objects' places are known (boxes)"
            )
        centres = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
        size = (scene.pixels.shape[2], scene.pixels.shape[3])
        return centred_locations(centres, size, scene.network.patch_size)

    def __call__(self, observation: Observation, state: Tensor | None) -> tuple[Tensor, Tensor]:
        if state is None:
            raise ValueError("the policy 'target' must be told the scene: begin with start(scene)")
        return state, state


class OraclePolicy:
    """The best location of a grid by the confidence in the true class, step by step.

    It tries every cell, so each step costs grid² focus calls, and it looks no step ahead.

    Args:
        grid: Cells along each axis.
    """

    name = "oracle"

    def __init__(self, grid: int = 7) -> None:
        if grid < 1:
            raise ValueError(f"grid must be at least 1, not {grid}")
        self.grid = grid

    def start(self, scene: Scene) -> Scene:
        """The scene itself.

        Raises:
            ValueError: The true classes are not known.
        """
        if scene.labels is None:
            raise ValueError("the policy 'oracle' needs images whose true classes are known")
        return scene

    def __call__(self, observation: Observation, state: Scene | None) -> tuple[Tensor, Scene]:
        if state is None:
            raise ValueError("the policy 'oracle' must be told the scene: begin with start(scene)")
        assert state.labels is not None
        network, memory = state.network, observation["memory"]
        rows = torch.arange(len(state.pixels), device=memory.device)
        rows = rows if state.rows is None else state.rows
        # A focus goes on from the memory and the number alone; the rest may stay empty.
        nothing = memory.new_empty(len(memory), 0)
        step = Step(
            feature_map=observation["features"],
            glance_map=nothing,
            seen=memory.new_zeros(len(memory), 1, 1),
            vector=nothing,
            memory=memory,
            logits=nothing,
            location=observation["location"],
            number=step_numbers(observation, network.focus_steps),
        )
        best = memory.new_full((len(memory),), -1.0)
        locations = torch.zeros_like(step.location)
        for cell in lattice(self.grid).to(memory.device):
            tried = cell.expand_as(locations)
            after = network.focus(state.pixels, tried, step, rows)
            confidence = after.label_confidence(state.labels[rows])
            better = confidence > best
            best = torch.where(better, confidence, best)
            locations = torch.where(better[:, None], tried, locations)
        return locations, state
