"""Actions: what an agent emits, and the locations that it means."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from gfnet_env.perception.geometry import lattice, nearest_cell


class Actions(Protocol):
    """A kind of action."""

    @property
    def space(self) -> spaces.Space[Any]:
        """The space of one sub-environment's actions."""
        ...

    @property
    def meaning(self) -> str:
        """What one action is, for messages."""
        ...

    def locations(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The locations (N, 2) in [-1, 1] that N actions of the space's shape mean.

        Raises:
            ValueError: The actions are of another type, or one of them means nothing.
        """
        ...

    def masks(self, trails: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which actions would look where nobody has looked yet.

        Args:
            trails: Locations of the patches of N episodes, (N, T - 1, 2); NaN where there is none.

        Returns:
            (N, number of actions). All True where every place has been looked at.

        Raises:
            ValueError: The actions cannot be counted.
        """
        ...


class ContinuousActions:
    """A location itself, (row, column); what lies beyond an edge is taken as the edge."""

    meaning = "a (row, column) in [-1, 1]"

    def __init__(self) -> None:
        self.space = spaces.Box(-1, 1, (2,), np.float32)

    def locations(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if actions.dtype.kind not in "fiu":
            raise ValueError(f"an action must be {self.meaning}, not {actions.dtype}")
        locations = actions.astype(np.float32)
        if np.isnan(locations).any():
            raise ValueError("an action is NaN; look for NaN in the weights of the policy")
        return locations.clip(-1, 1)

    def masks(self, trails: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        raise ValueError("continuous actions have no masks; make the environment with 'grid' ones")


class GridActions:
    """The number of a cell of a grid, row by row; its location is that of ``lattice``.

    Args:
        grid: Cells along each axis.

    Raises:
        ValueError: There are no cells.
    """

    def __init__(self, grid: int) -> None:
        if grid < 1:
            raise ValueError(f"grid must be at least 1, not {grid}")
        self._grid = grid
        self._cells = lattice(grid).numpy()
        self.space = spaces.Discrete(len(self._cells))
        self.meaning = f"the number of a cell in 0..{len(self._cells) - 1}"

    def locations(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if actions.dtype.kind not in "iu":
            raise ValueError(f"an action must be {self.meaning}, not {actions.dtype}")
        outside = actions[(actions < 0) | (actions >= len(self._cells))]
        if len(outside):
            raise ValueError(f"an action must be {self.meaning}, not {outside[0]}")
        return self._cells[actions]

    def masks(self, trails: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        episode, step = np.nonzero(~np.isnan(trails).any(axis=2))
        looked = nearest_cell(torch.from_numpy(trails[episode, step]), self._grid)
        free = np.ones((len(trails), len(self._cells)), dtype=bool)
        free[episode, looked.numpy()] = False
        return free | ~free.any(axis=1, keepdims=True)


ACTIONS: dict[str, Callable[[int], Actions]] = {
    "continuous": lambda _: ContinuousActions(),
    "grid": GridActions,
}


def resolve_actions(name: str, grid: int) -> Actions:
    """A kind of action by name.

    Args:
        name: A name in ``ACTIONS``.
        grid: Cells along each axis, where there are any.

    Raises:
        ValueError: There is no kind of that name, or there are no cells.
    """
    if name not in ACTIONS:
        raise ValueError(f"unknown actions {name!r}; known: {', '.join(ACTIONS)}")
    return ACTIONS[name](grid)
