"""Actions that are cells of a grid."""

import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.actions.base import Actions
from gfnet_env.actions.registry import ACTIONS
from gfnet_env.looks import Look, lattice, nearest_cell
from gfnet_env.models.base import State


@ACTIONS.register("grid")
class GridActions(Actions):
    """The number of a cell of a grid, counted row by row; ``lattice`` gives the locations.

    Args:
        cells: Number of cells along each axis.

    Raises:
        ValueError: ``cells`` is below 1.
    """

    def __init__(self, cells: int = 7) -> None:
        self._cells, self._locations = cells, lattice(cells)
        meaning = f"the number of a cell in 0..{cells**2 - 1}"
        super().__init__(spaces.Discrete(cells**2), meaning, f"grid:cells={cells}")

    def looks(self, actions: Tensor, state: State) -> Look:
        return Look.at(self._locations.to(actions.device)[actions])

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        episode, _ = torch.nonzero(taken, as_tuple=True)
        looked = nearest_cell(trail.location[taken], self._cells)
        free = torch.ones(len(taken), self._cells**2, dtype=torch.bool, device=taken.device)
        free[episode, looked] = False
        return free | ~free.any(dim=1, keepdim=True)
