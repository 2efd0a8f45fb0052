"""Kinds of action by spec: ``grid:cells=7``, ``zoom:max_scale=4+stop``, ``module:NAME``."""

from gfnet_env.actions.base import Actions
from gfnet_env.actions.stop import STOP, WithStop
from gfnet_env.registry import Registry

ACTIONS: Registry[Actions] = Registry("kind of action", context=("patch_size",))


def build_actions(
    actions: str | Actions, *, trusted: bool = True, patch_size: int | None = None
) -> Actions:
    """Build a kind of action.

    Args:
        actions: An object, or a spec: ``continuous``, ``grid:cells=7``, ``zoom:max_scale=4`` or
            ``module:NAME``; with ``+stop`` appended, it can also stop.
        trusted: See ``Registry.build``.
        patch_size: P of the model, for kinds that depend on it.

    Raises:
        ValueError: There is no such kind, it is not a whole ``Actions``, or a parameter is wrong.
    """
    looking = actions.removesuffix(STOP) if isinstance(actions, str) else actions
    built = ACTIONS.build(looking, trusted=trusted, patch_size=patch_size)
    if not isinstance(built, Actions):
        raise ValueError(
            f"{looking!r} makes a {type(built).__name__}; make Actions, such as BoxActions"
        )
    if not hasattr(built, "space"):
        raise ValueError(
            f"{type(built).__name__} has no space of actions; call super().__init__ in its own"
        )
    built.spec = built.spec or str(looking)
    return built if looking == actions else WithStop(built)
