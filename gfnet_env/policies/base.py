"""The policy protocol: who picks the patch."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.perception import GlanceFocusNetwork

State = Any


class Policy(Protocol):
    """Anything that maps observations to locations; a ``torch.nn.Module`` will do."""

    def __call__(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Pick the next patch of every image.

        Args:
            observation: See ``observe``; B rows.
            state: What the policy itself returned at the step before, less the rows of images that
                have left the batch; None at the glance and where there is none. A tensor with B
                rows, or a tuple, list or dict of such.

        Returns:
            Locations (B, 2) in [-1, 1], and the state to be given back at the next step.
        """
        ...


@dataclass(frozen=True)
class Scene:
    """What there is to know about a batch of images, most of it hidden from an agent.

    Attributes:
        network: The network that looks at them.
        pixels: (B, 3, H, W) uint8.
        indices: Which images of their set they are, (B,); their rows where there is no set.
        labels: (B,) int64, or None where unknown.
        boxes: (B, 4) as (top, left, bottom, right) in pixels, or None where unknown.
        rows: Rows of ``pixels`` that this scene is about, (R,) int64, or None for all; the other
            attributes keep their B rows.
    """

    network: GlanceFocusNetwork
    pixels: Tensor
    indices: npt.NDArray[np.int64]
    labels: Tensor | None = None
    boxes: Tensor | None = None
    rows: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "Scene":
        """The scene of some rows only, as the state of a batch that shrinks needs it."""
        seen = self.rows
        if seen is None:
            seen = torch.arange(len(self.pixels), device=self.pixels.device)
        kept = seen[rows]
        return Scene(self.network, self.pixels, self.indices, self.labels, self.boxes, kept)


@runtime_checkable
class NeedsScene(Protocol):
    """A policy whose state at the glance is made from more than an observation shows."""

    def start(self, scene: Scene) -> State:
        """The state to begin with."""
        ...


def initial_state(policy: Policy, scene: Scene) -> State:
    """The state a policy begins with: from the scene where it asks for one, else None."""
    return policy.start(scene) if isinstance(policy, NeedsScene) else None


def select_rows(state: State, rows: Tensor) -> State:
    """The state of some rows only."""
    if state is None:
        return None
    if isinstance(state, dict):
        return {key: select_rows(value, rows) for key, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [select_rows(value, rows) for value in state]
        # A named tuple takes its fields one by one.
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state[rows]


def step_numbers(observation: Observation, focus_steps: int) -> Tensor:
    """The number of each row's step, (B,) int64, from an observation."""
    return (observation["step"].squeeze(1) * focus_steps).round().to(torch.int64)
