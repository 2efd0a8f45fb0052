"""Glance-and-focus image classification: environments, models and an early-exit network.

``import gfnet_env`` registers ``gfnet_env/GlanceFocus-v0`` and the standard tasks with Gymnasium.
What is named below is imported when it is first used, and torch with it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

from gfnet_env.tasks import TASKS

if TYPE_CHECKING:
    from gfnet_env.images import ArrayImages, load_images
    from gfnet_env.inference import EarlyExitGFNet, load_official
    from gfnet_env.looks import Look
    from gfnet_env.models import GlanceFocusNetwork, count_multiply_adds
    from gfnet_env.zoo import pretrained

_TASKS = {name: task.arguments for name, task in TASKS.items()}
for _name, _arguments in {"GlanceFocus-v0": {}, **_TASKS}.items():
    register(
        id=f"gfnet_env/{_name}",
        entry_point="gfnet_env.env.single:GlanceFocusEnv",
        vector_entry_point="gfnet_env.env.vector:GlanceFocusVectorEnv",
        kwargs=_arguments,
    )

__all__ = [
    "ArrayImages",
    "EarlyExitGFNet",
    "GlanceFocusNetwork",
    "Look",
    "count_multiply_adds",
    "load_images",
    "load_official",
    "pretrained",
]

_MODULES = {
    "images": ("ArrayImages", "load_images"),
    "inference": ("EarlyExitGFNet", "load_official"),
    "looks": ("Look",),
    "models": ("GlanceFocusNetwork", "count_multiply_adds"),
    "zoo": ("pretrained",),
}


def __getattr__(name: str) -> Any:
    """Import what is used, see PEP 562."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        if name == module:
            return importlib.import_module(f"{__name__}.{module}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
