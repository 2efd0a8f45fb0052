"""The base classes of actions, which turn what an agent emits into looks."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.arrays import as_array
from gfnet_env.contracts import described, name_of
from gfnet_env.looks import Look
from gfnet_env.models.base import State


class Actions(ABC):
    """A kind of action.

    Args:
        space: The space of one sub-environment's actions: a ``Discrete``, or a ``Box`` (D,) within
            [-1, 1].
        meaning: What one action means, for messages.
        spec: Spec that builds these actions again, see ``build_actions``. It sets the spec of a
            kind of your own.

    Attributes:
        space: The same as the argument.
        meaning: The same as the argument.
        spec: The same as the argument.
        chooses_scale: Whether the looks differ in scale.

    Raises:
        ValueError: The space is another one.
    """

    chooses_scale = False

    def __init__(
        self, space: spaces.Box | spaces.Discrete, meaning: str = "", spec: str = ""
    ) -> None:
        fits = isinstance(space, spaces.Discrete) and space.start == 0
        if isinstance(space, spaces.Box):
            inside = bool((space.low >= -1).all() and (space.high <= 1).all())
            fits = inside and len(space.shape) == 1 and space.shape[0] > 0
        if not fits:
            raise ValueError(
                f"actions must be a Discrete from 0, or a Box of several numbers in [-1, 1], not "
                f"{space}; convert them to what you need in looks()"
            )
        self.space, self.meaning, self.spec = space, meaning or f"of {space}", spec

    @abstractmethod
    def looks(self, actions: Tensor, state: State) -> Look:
        """The looks of B actions.

        Args:
            actions: (B, D) float32 within the Box, or (B,) int64 within the Discrete.
            state: State of the pictures, with their sizes and the latest look.
        """

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        """Mark the numbered actions that look where the episode has not looked yet.

        Args:
            trail: The looks of B episodes at each of S steps: location (B, S, 2), scale (B, S).
            taken: Whether each of these looks was taken, (B, S) bool.

        Returns:
            (B, number of actions) bool; all True once every place has been looked at.

        Raises:
            ValueError: The actions are not numbered.
        """
        raise ValueError(
            f"{self.spec} actions have no masks; make the environment with 'grid' ones"
        )

    def read(self, given: Any) -> Tensor:
        """Convert actions (B, …) to the format of ``looks``; values beyond a Box are clipped.

        Raises:
            ValueError: An action has another type, is NaN, or is not a number of the Discrete.
        """
        array = as_array(given, "actions")
        cells = isinstance(self.space, spaces.Discrete)
        if array.dtype.kind not in ("iu" if cells else "iuf"):
            raise ValueError(f"an action must be {self.meaning}, not {array.dtype}")
        kind = np.int64 if cells else np.float64
        return self.bounded(torch.from_numpy(array.astype(kind)))

    def bounded(self, actions: Tensor) -> Tensor:
        """``read`` for actions that are a tensor on any device."""
        if isinstance(self.space, spaces.Discrete):
            if actions.is_floating_point() or actions.is_complex() or actions.dtype == torch.bool:
                raise ValueError(f"an action must be {self.meaning}, not {actions.dtype}")
            outside = actions[(actions < 0) | (actions >= int(self.space.n))]
            if len(outside):
                raise ValueError(f"an action must be {self.meaning}, not {int(outside[0])}")
            return actions.long()
        if actions.is_complex() or actions.dtype == torch.bool:
            raise ValueError(f"an action must be {self.meaning}, not {actions.dtype}")
        if bool(actions.isnan().any()):
            raise ValueError("an action is NaN; look for NaN in the weights of the policy")
        low, high = (torch.from_numpy(end).to(actions) for end in (self.space.low, self.space.high))
        return actions.clamp(low, high).float()


def looks_of(actions: Any, given: Tensor, state: State) -> Look:
    """``actions.looks``, or an error if it makes anything but looks.

    Raises:
        ValueError: It does.
    """
    looks = actions.looks(given, state)
    if not isinstance(looks, Look):
        raise ValueError(
            f"the actions {name_of(actions)} must make looks, such as Look.at(locations), not "
            f"{described(looks)}"
        )
    return looks


class BoxActions(Actions):
    """Base of actions that consist of ``size`` numbers in [-1, 1]; see ``Actions``."""

    def __init__(self, size: int, meaning: str = "", spec: str = "") -> None:
        super().__init__(spaces.Box(-1, 1, (size,), np.float32), meaning, spec)
