"""Check whether an encoder can be used in a network, and what the network costs."""

import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.encoders import build_encoder
from gfnet_env.looks import Look
from gfnet_env.models import GFNetState, GlanceFocusNetwork, count_multiply_adds, count_parameters

# The encoders of the GFNet paper.
PAPER_BACKBONES = (
    *("mobilenetv3_large_100", "mobilenetv3_large_125"),
    *("regnety_600m", "regnety_800m", "regnety_1.6g"),
    *("efficientnet_b2", "efficientnet_b3"),
    *("resnet50", "densenet121", "densenet169", "densenet201"),
)

_CLASSES = 10


@dataclass(frozen=True)
class Backbone:
    """The properties of an encoder that passed the check.

    Attributes:
        feature_shape: (C, h, w) of its map.
        vector_size: Length of its feature vector, V.
        parameters: Number of its learned parameters.
        multiply_adds: Multiply-adds of one view, without the encoder's own head.
    """

    feature_shape: tuple[int, ...]
    vector_size: int
    parameters: int
    multiply_adds: int


def check_backbone(name: str, patch_size: int = 96, training_size: int = 64) -> Backbone:
    """Build a network of an encoder, train it for two steps, save it, load it, and count its cost.

    Args:
        name: Spec of the encoder, see ``build_encoder``; its weights are random.
        patch_size: P for counting the cost, in pixels.
        training_size: P for all other checks, in pixels; smaller is faster.

    Raises:
        ValueError: There is no such encoder, or it does not take such views.
        RuntimeError: Training changes nothing or diverges, or the loaded network gives other
            outputs.
    """
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(
        encoder=name, patch_size=training_size, num_classes=_CLASSES, focus_steps=1
    )
    views = torch.randint(0, 256, (4, 3, training_size, training_size), dtype=torch.uint8)
    _train(network, views)
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        network.save(folder)
        loaded = GlanceFocusNetwork.load(folder)
    encoder = build_encoder(name, _CLASSES, patch_size=patch_size).eval()
    view = torch.zeros(1, 3, patch_size, patch_size, dtype=torch.uint8)
    with torch.no_grad():
        if not torch.equal(_episode(network, views).logits, _episode(loaded, views).logits):
            raise RuntimeError(
                f"a network of {name!r} gives other outputs after saving and loading"
            )
        feature_map, vector = encoder(view)
    return Backbone(
        feature_shape=tuple(feature_map.shape[1:]),
        vector_size=vector.shape[1],
        parameters=count_parameters(encoder),
        multiply_adds=count_multiply_adds(encoder, view),
    )


def _episode(network: GlanceFocusNetwork, views: Tensor) -> GFNetState:
    """The state after a glance and a look that both show the same views."""
    sizes = torch.full((len(views), 2), network.view.size)
    state = network.begin(network.encode_overview(views), sizes)
    return network.look(network.encode_window(views), Look.at(state.location), state)


def _train(network: GlanceFocusNetwork, views: Tensor) -> None:
    labels = torch.arange(len(views))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = [parameter.clone() for parameter in network.parameters()]
    for _ in range(2):
        state = _episode(network, views)
        own = network.local_encoder.head(state.vector)
        loss = sum(functional.cross_entropy(logits, labels) for logits in (state.logits, own))
        assert isinstance(loss, Tensor)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss of {network.config.encoder!r} is {loss.item()}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if all(map(torch.equal, before, network.parameters())):
        raise RuntimeError(f"training changes nothing in {network.config.encoder!r}")
