"""What features depend on."""

import dataclasses
from typing import Any

from torch import nn

from gfnet_env.digest import digest, weights_digest
from gfnet_env.images.base import ImageSet
from gfnet_env.models.base import Model


def describe(model: Model, images: ImageSet) -> dict[str, Any]:
    """All that the features of some images depend on, wherever the model looks: JSON.

    Labels, focus steps and what a model has beside its encoders are no part of it. Neither are the
    code of an encoder, the version of torch and the device: we assume that they change rounding at
    most.

    Raises:
        ValueError: The model is no ``torch.nn.Module``.
    """
    modules = _encoders(model)
    layers = [type(layer).__name__ for module in modules for layer in module.modules()]
    return {
        "encoder layers": digest(layers),
        "encoder weights": digest(*map(weights_digest, modules)),
        "view": dataclasses.asdict(model.view),
        "images": images.digest(),
        "image count": len(images),
        "image size": None if images.fixed_size is None else list(images.fixed_size),
    }


def _encoders(model: Model) -> list[nn.Module]:
    """The modules that make features: those that ``encoder_modules`` names, or else all of it."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"features of {type(model).__name__} cannot be cached: its weights are not known. Make "
            "it a torch.nn.Module, or take live features"
        )
    return [model.get_submodule(name) for name in getattr(model, "encoder_modules", ("",))]
