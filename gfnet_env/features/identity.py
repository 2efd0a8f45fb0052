"""What frozen features depend on."""

from typing import Any

from gfnet_env.data import ImageSet
from gfnet_env.digest import digest, weights_digest
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.precision import Precision


def describe(
    network: GlanceFocusNetwork,
    images: ImageSet,
    image_size: tuple[int, int],
    cells: int,
    precision: Precision,
) -> dict[str, Any]:
    """All that the features of every image at every location of a lattice depend on, JSON.

    The classifier, the labels and the number of focus steps are no part of it. Neither are the code
    of an encoder, the version of torch and the device, which are taken to change rounding at most.
    """
    config = network.config
    return {
        "format": 1,
        "encoder": config.encoder,
        "encoder weights": digest(
            weights_digest(network.global_encoder), weights_digest(network.local_encoder)
        ),
        "patch size": config.patch_size,
        "resizing": [config.interpolation, config.antialias, config.align_corners],
        "corner rounding": config.corner_rounding,
        "feature shape": [*network.feature_shape, network.vector_size],
        "precision": precision,
        "cells": cells,
        "images": images.digest(),
        "image count": len(images),
        "image size": list(image_size),
    }
