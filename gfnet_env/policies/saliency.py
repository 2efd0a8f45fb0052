"""A policy without training, which looks at the evidence for the glance's class."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState, GlanceFocusNetwork
from gfnet_env.policies.base import POLICIES, Context

# A cell counts as seen if this share of it is covered.
_COVERED = 0.5

SaliencyMemory = tuple[Tensor, Tensor]


def class_activation(
    network: GlanceFocusNetwork, views: Tensor, normalised: bool = False
) -> Tensor:
    """How much each cell of the glance's map contributes to the most confident class.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) of the global encoder with its own
    head, without the rectifier, which would make cells equal.

    Args:
        network: In evaluation mode.
        views: Overviews, (B, 3, P, P), see ``ImageSet.overview``.
        normalised: Whether the views are already normalised.

    Returns:
        (B, h, w) float32.
    """
    # Callers disable gradients, some by inference mode. Weights may be frozen, so pixels get the
    # gradient.
    with torch.inference_mode(False), torch.enable_grad():
        pixels = views.clone().float().requires_grad_()
        features = network.global_encoder(pixels, normalised)
        best = network.global_encoder.head(features.vector).amax(dim=1)
        (gradient,) = torch.autograd.grad(best.sum(), features.map)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * features.map).sum(dim=1).detach().float()


def _seen(state: State) -> dict[str, Tensor]:
    """The cells of the glance that windows have covered: ``seen``, (B, h·w) in [0, 1]."""
    assert isinstance(state, GFNetState)
    return {"seen": state.seen.flatten(1)}


@POLICIES.register("saliency")
class SaliencyPolicy:
    """Looks at the most salient cell of the glance that no window has covered yet.

    Salience is ``class_activation``; it costs one more glance and its gradient per picture. Cells
    that were chosen, or are at least half covered, come last.
    """

    def __init__(self) -> None:
        self.config: dict[str, int] = {}
        self.observation = _seen

    def start(self, context: Context) -> SaliencyMemory:
        """The salience of all cells in [0, 1], (B, h·w), and their locations, (B, h·w, 2).

        Raises:
            ValueError: The model is not a ``GlanceFocusNetwork``.
        """
        network, images = context.model, context.features.images
        if not isinstance(network, GlanceFocusNetwork):
            raise ValueError(
                f"the policy 'saliency' needs a GlanceFocusNetwork, not a {type(network).__name__}"
            )
        views = images.overview(context.indices, network.glance_view).to(network.device)
        activation = class_activation(network, views, images.normalised)
        rows, columns = activation.shape[1:]
        activation = activation.flatten(1)
        lowest = activation.amin(dim=1, keepdim=True)
        span = activation.amax(dim=1, keepdim=True) - lowest
        salience = (activation - lowest) / span.clamp(min=torch.finfo(span.dtype).tiny)
        sizes = images.sizes(context.indices).to(network.device)
        return salience, network.view.cell_locations(sizes, (rows, columns))

    def __call__(
        self, observation: Mapping[str, Tensor], memory: SaliencyMemory
    ) -> tuple[Tensor, SaliencyMemory]:
        salience, locations = memory
        # Below all other cells, and still in the order of their salience.
        scores = salience - 2 * (observation["seen"] >= _COVERED).float()
        cell = scores.argmax(dim=1, keepdim=True)
        chosen = locations.gather(1, cell[..., None].expand(-1, -1, 2)).squeeze(1)
        # A window may be smaller than half a cell.
        salience = salience.scatter_add(1, cell, torch.full_like(cell, -2, dtype=scores.dtype))
        return chosen, (salience, locations)
