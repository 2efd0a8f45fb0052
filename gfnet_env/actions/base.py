"""Actions: what an agent emits, and the looks that result."""

from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from gfnet_env.looks import Look
from gfnet_env.models.base import State
from gfnet_env.registry import Registry


class Actions(Protocol):
    """A kind of action.

    Attributes:
        space: The space of one sub-environment's actions: a ``Discrete``, or a ``Box`` (D,) within
            [-1, 1].
        meaning: Of one action, for messages.
        spec: Builds these actions again, see ``Registry``.
        chooses_scale: Whether the looks differ in scale.
    """

    space: spaces.Box | spaces.Discrete
    meaning: str
    spec: str
    chooses_scale: bool

    def looks(self, actions: Tensor, state: State) -> Look:
        """The looks of B actions.

        Args:
            actions: (B, D) float32 within the Box, or (B,) int64 within the Discrete.
            state: Of the pictures, with their sizes and the latest look.
        """
        ...

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
        ...


ACTIONS: Registry[Actions] = Registry("kind of action", context=("patch_size",))

_STOP = "+stop"


def build_actions(
    actions: str | Actions, *, trusted: bool = True, patch_size: int | None = None
) -> Actions:
    """Build a kind of action.

    Args:
        actions: An object, or a spec: ``continuous``, ``grid:cells=7``, ``zoom:max_scale=4`` or
            ``module:NAME``; with ``+stop`` behind it, it can also stop.
        trusted: See ``Registry.build``.
        patch_size: P of the model, for kinds that depend on it.

    Raises:
        ValueError: There is no such kind, or a parameter is wrong.
    """
    if isinstance(actions, str) and actions.endswith(_STOP):
        from gfnet_env.actions.stop import WithStop

        others = actions.removesuffix(_STOP)
        return WithStop(build_actions(others, trusted=trusted, patch_size=patch_size))
    built = ACTIONS.build(actions, trusted=trusted, patch_size=patch_size)
    for name, value in {"spec": str(actions), "meaning": f"of {built.space}"}.items():
        if not hasattr(built, name):
            setattr(built, name, value)
    built.chooses_scale = getattr(built, "chooses_scale", False)
    return built


def check_actions(actions: Actions, given: Any) -> Tensor:
    """Actions (B, …) in the format of ``Actions.looks``; values beyond a Box are clipped.

    Raises:
        ValueError: They are of another type, NaN, or none of the numbers.
    """
    array = torch.as_tensor(given)
    whole = not array.is_floating_point() and array.dtype != torch.bool
    if isinstance(actions.space, spaces.Discrete):
        if not whole:
            raise ValueError(f"an action must be {actions.meaning}, not {array.dtype}")
        outside = array[(array < 0) | (array >= int(actions.space.n))]
        if len(outside):
            raise ValueError(f"an action must be {actions.meaning}, not {int(outside[0])}")
        return array.long()
    if not whole and not array.is_floating_point():
        raise ValueError(f"an action must be {actions.meaning}, not {array.dtype}")
    array = array.float()
    if bool(array.isnan().any()):
        raise ValueError("an action is NaN; look for NaN in the weights of the policy")
    return array.clamp(-1, 1)
