"""A policy that learns nothing of its own: it looks where the glance's class comes from."""

import torch
from torch import Tensor

from gfnet_env.env.observation import Observation
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.geometry import centred_locations
from gfnet_env.policies.base import Scene

# A cell that is covered by this share has been seen.
_COVERED = 0.5

SaliencyState = tuple[Tensor, Tensor]


def class_activation(network: GlanceFocusNetwork, images: Tensor) -> Tensor:
    """What each cell of the glance's map says for the class it is most confident of.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) of the global encoder with its own
    head, less the rectifier, which would only make cells alike.

    Args:
        network: In evaluation mode.
        images: (B, 3, H, W) uint8, or floats that are normalised as the encoders expect.

    Returns:
        (B, h, w) float32.
    """
    normalised = images.is_floating_point()
    # Callers work without gradients, some in inference mode; and pixels, unlike weights, which may
    # be frozen, can always be asked for a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        pixels = network.scale_down(images).clone().float().requires_grad_()
        features = network.global_encoder(pixels, normalised)
        best = network.global_encoder.head(features.vector).amax(dim=1)
        (gradient,) = torch.autograd.grad(best.sum(), features.map)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * features.map).sum(dim=1).detach().float()


class SaliencyPolicy:
    """The patch about the most salient cell of the glance that no patch has covered yet.

    Salience is ``class_activation``; it takes one more glance and its gradient, once per image. A
    cell that was chosen, or half of which has been covered, comes after all others.
    """

    name = "saliency"

    def __init__(self) -> None:
        self.config: dict[str, int] = {}

    def start(self, scene: Scene) -> SaliencyState:
        """The salience of all cells in [0, 1], (B, h·w), and their locations, (B, h·w, 2)."""
        network, pixels = scene.network, scene.pixels
        activation = class_activation(network, pixels)
        count, rows, columns = activation.shape
        activation = activation.flatten(1)
        lowest = activation.amin(dim=1, keepdim=True)
        span = activation.amax(dim=1, keepdim=True) - lowest
        salience = (activation - lowest) / span.clamp(min=torch.finfo(span.dtype).tiny)

        size = (pixels.shape[2], pixels.shape[3])
        cells = torch.cartesian_prod(
            (torch.arange(rows, device=pixels.device) + 0.5) * size[0] / rows,
            (torch.arange(columns, device=pixels.device) + 0.5) * size[1] / columns,
        )
        locations = centred_locations(cells, size, network.patch_size)
        return salience, locations.expand(count, -1, -1)

    def __call__(
        self, observation: Observation, state: SaliencyState | None
    ) -> tuple[Tensor, SaliencyState]:
        if state is None:
            raise ValueError(
                "the policy 'saliency' must be told the scene: begin with start(scene)"
            )
        salience, locations = state
        # Below any salience, and yet in its order where nothing else is left.
        scores = salience - 2 * (observation["seen"] >= _COVERED).float()
        cell = scores.argmax(dim=1, keepdim=True)
        chosen = locations.gather(1, cell[..., None].expand(-1, -1, 2)).squeeze(1)
        # A patch may be smaller than half of a cell.
        salience = salience.scatter_add(1, cell, torch.full_like(cell, -2, dtype=scores.dtype))
        return chosen, (salience, locations)
