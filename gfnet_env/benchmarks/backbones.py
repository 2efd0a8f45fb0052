"""Whether a network can be made of an encoder, and what it then costs."""

import tempfile
from dataclasses import dataclass

import torch
from torch.nn import functional

from gfnet_env.inference.cost import count_multiply_adds, count_parameters
from gfnet_env.perception import GlanceFocusNetwork, Step

# The encoders of the GFNet paper.
PAPER_BACKBONES = (
    *("mobilenetv3_large_100", "mobilenetv3_large_125"),
    *("regnety_600m", "regnety_800m", "regnety_1.6g"),
    *("efficientnet_b2", "efficientnet_b3"),
    *("resnet50", "densenet121", "densenet169", "densenet201"),
)

_CLASSES = 10
_IMAGES = 4


@dataclass(frozen=True)
class Backbone:
    """What is known of an encoder that passed.

    Attributes:
        name: The encoder.
        feature_shape: (C, h, w) of its map at the patch size that was counted.
        vector_size: Numbers of its vector, V.
        parameters: How many numbers it has learned.
        multiply_adds: Of one patch, without its own head.
    """

    name: str
    feature_shape: tuple[int, ...]
    vector_size: int
    parameters: int
    multiply_adds: int


def check_backbone(name: str, patch_size: int = 96, training_size: int = 64) -> Backbone:
    """Build a network of an encoder, train it for two steps, save it, load it, and count its cost.

    Args:
        name: See ``build_encoder``; its weights are random.
        patch_size: P that the cost is counted at, in pixels.
        training_size: Side of the patches of the rest, in pixels; smaller is faster.

    Raises:
        ValueError: There is no such encoder.
        RuntimeError: Training changes nothing or diverges, or what was saved answers otherwise.
    """
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(
        encoder=name, patch_size=training_size, num_classes=_CLASSES, focus_steps=1
    )
    side = training_size + training_size // 2
    images = torch.randint(0, 256, (_IMAGES, 3, side, side), dtype=torch.uint8)
    _train(network, images)
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        network.save(folder)
        loaded = GlanceFocusNetwork.load(folder)
    with torch.no_grad():
        if not torch.equal(_look(network, images).logits, _look(loaded, images).logits):
            raise RuntimeError(f"a network of {name!r} answers otherwise once saved and loaded")
        patch = torch.zeros(1, 3, patch_size, patch_size, dtype=torch.uint8)
        feature_map, vector = network.local_encoder(patch)
    return Backbone(
        name=name,
        feature_shape=tuple(feature_map.shape[1:]),
        vector_size=vector.shape[1],
        parameters=count_parameters(network.local_encoder),
        multiply_adds=count_multiply_adds(network.local_encoder, patch),
    )


def _look(network: GlanceFocusNetwork, images: torch.Tensor) -> Step:
    step = network.glance(images)
    return network.focus(images, torch.zeros_like(step.location), step)


def _train(network: GlanceFocusNetwork, images: torch.Tensor) -> None:
    labels = torch.arange(len(images)) % _CLASSES
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = [parameter.clone() for parameter in network.parameters()]
    for _ in range(2):
        step = _look(network, images)
        own = network.local_encoder.head(step.vector)
        loss = functional.cross_entropy(step.logits, labels) + functional.cross_entropy(own, labels)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss of {network.config.encoder!r} is {loss.item()}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    changed = zip(before, network.parameters(), strict=True)
    if all(torch.equal(old, new) for old, new in changed):
        raise RuntimeError(f"training changes nothing in {network.config.encoder!r}")
