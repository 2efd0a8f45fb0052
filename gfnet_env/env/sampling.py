"""Which image an episode is about."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from gfnet_env.data import ImageSet, batches
from gfnet_env.perception import GlanceFocusNetwork

Sampling = Literal["all", "uncertain"]


def check_sampling(sampling: str) -> None:
    """Raises ``ValueError`` unless ``sampling`` is a known name."""
    if sampling not in get_args(Sampling):
        raise ValueError(f"unknown sampling {sampling!r}; known: {', '.join(get_args(Sampling))}")


def image_order(
    count: int, seed: int, weights: npt.NDArray[np.float64] | None = None
) -> Iterator[int]:
    """An endless order of images, fixed by its seed.

    Args:
        count: Images there are.
        seed: Other seeds give other orders.
        weights: None to go through all images in a random order, again and again; or how often to
            draw each, (count,), relative to the others.
    """
    rng = np.random.default_rng(seed)
    if weights is None:
        while True:
            yield from rng.permutation(count).tolist()
    cumulative = np.cumsum(weights)
    while True:
        draw = rng.random() * cumulative[-1]
        yield min(int(np.searchsorted(cumulative, draw, side="right")), count - 1)


@torch.no_grad()
def glance_uncertainty(
    network: GlanceFocusNetwork, images: ImageSet, batch_size: int = 256
) -> npt.NDArray[np.float64]:
    """1 − p_glance(y) of every image, (N,): all that any patch could gain there.

    The reward dries up on images that the glance has settled, so drawing by this number spends the
    episodes where there is something to learn.
    """
    uncertainty = [
        1 - network.glance(batch.pixels).label_confidence(batch.labels).cpu().double().numpy()
        for batch in batches(images, batch_size, device=network.device)
    ]
    return np.concatenate(uncertainty)
