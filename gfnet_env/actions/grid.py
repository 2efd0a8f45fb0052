"""Actions that are cells of a grid."""

import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.actions.base import ACTIONS
from gfnet_env.looks import Look, lattice, nearest_cell
from gfnet_env.models.base import State


@ACTIONS.register("grid")
class GridActions:
    """The number of a cell of a grid, row by row; for the locations, see ``lattice``.

    Args:
        cells: Along each axis.

    Raises:
        ValueError: There are no cells.
    """

    chooses_scale = False

    def __init__(self, cells: int = 7) -> None:
        self._cells, self._locations = cells, lattice(cells)
        count = len(self._locations)
        self.space = spaces.Discrete(count)
        self.spec = f"grid:cells={cells}"
        self.meaning = f"the number of a cell in 0..{count - 1}"

    def looks(self, actions: Tensor, state: State) -> Look:
        return Look.at(self._locations.to(actions.device)[actions])

    def masks(self, trail: Look, taken: Tensor) -> Tensor:
        episode, _ = torch.nonzero(taken, as_tuple=True)
        looked = nearest_cell(trail.location[taken], self._cells)
        free = torch.ones(len(taken), int(self.space.n), dtype=torch.bool, device=taken.device)
        free[episode, looked] = False
        return free | ~free.any(dim=1, keepdim=True)
