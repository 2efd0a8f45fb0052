"""What a kind of action is: from what an agent emits to the looks that result."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.looks import Look
from gfnet_env.models.base import State


class Actions(ABC):
    """A kind of action.

    Args:
        space: The space of one sub-environment's actions: a ``Discrete``, or a ``Box`` (D,) within
            [-1, 1].
        meaning: Of one action, for messages.
        spec: Builds these actions again, see ``build_actions``, which sets that of a kind of your
            own.

    Attributes:
        space: Likewise.
        meaning: Likewise.
        spec: Likewise.
        chooses_scale: Whether the looks differ in scale.
    """

    chooses_scale = False

    def __init__(
        self, space: spaces.Box | spaces.Discrete, meaning: str = "", spec: str = ""
    ) -> None:
        self.space, self.meaning, self.spec = space, meaning or f"of {space}", spec

    @abstractmethod
    def looks(self, actions: Tensor, state: State) -> Look:
        """The looks of B actions.

        Args:
            actions: (B, D) float32 within the Box, or (B,) int64 within the Discrete.
            state: Of the pictures, with their sizes and the latest look.
        """

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        """Which of the numbered actions look where the episode has not looked yet.

        Args:
            trail: The looks of B episodes at each of S steps: location (B, S, 2), scale (B, S).
            taken: Which of them were taken, (B, S) bool.

        Returns:
            (B, number of actions) bool; all True once every place has been looked at.

        Raises:
            ValueError: The actions have no numbers.
        """
        raise ValueError(
            f"{self.spec} actions have no masks; make the environment with 'grid' ones"
        )

    def read(self, given: Any) -> Tensor:
        """Actions (B, …) in the format of ``looks``; values beyond a Box are clipped.

        Raises:
            ValueError: They are of another type, NaN, or none of the numbers.
        """
        array = torch.as_tensor(given)
        whole = not array.is_floating_point() and array.dtype != torch.bool
        if isinstance(self.space, spaces.Discrete):
            if not whole:
                raise ValueError(f"an action must be {self.meaning}, not {array.dtype}")
            outside = array[(array < 0) | (array >= int(self.space.n))]
            if len(outside):
                raise ValueError(f"an action must be {self.meaning}, not {int(outside[0])}")
            return array.long()
        if not whole and not array.is_floating_point():
            raise ValueError(f"an action must be {self.meaning}, not {array.dtype}")
        array = array.float()
        if bool(array.isnan().any()):
            raise ValueError("an action is NaN; look for NaN in the weights of the policy")
        return array.clamp(-1, 1)


class BoxActions(Actions):
    """Base of actions that are ``size`` numbers in [-1, 1] each; see ``Actions``."""

    def __init__(self, size: int, meaning: str = "", spec: str = "") -> None:
        super().__init__(spaces.Box(-1, 1, (size,), np.float32), meaning, spec)
