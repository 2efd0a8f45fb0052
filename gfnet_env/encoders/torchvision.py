"""Encoders of torchvision, by name."""

import difflib
import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfnet_env.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, Features
from gfnet_env.encoders.registry import ENCODERS
from gfnet_env.encoders.weights import downloaded, fill, load_weights_file

# Names of the heads of torchvision's networks.
_HEADS = ("fc", "classifier", "head")


@ENCODERS.register("torchvision")
class TorchvisionEncoder(Encoder):
    """Any convolutional classifier of torchvision whose head takes a pooled vector.

    The vector is the input of the head, hidden layers included. The map is the last (B, C, h, w)
    tensor before the head.

    Args:
        name: Its torchvision name: ``shufflenet_v2_x1_0``, …
        num_classes: Number of classes of its own head. A file of weights fills the head if it fits.
        weights: None (random), ``pretrained`` (torchvision's default ones, downloaded), or a file
            (safetensors, or a ``.pth`` that is read without running pickled code).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such network, it has no such map and vector, or its weights do not
            fit or are not available.
    """

    def __init__(self, name: str, num_classes: int, weights: str | Path | None = None) -> None:
        from torchvision import models
        from torchvision.models.feature_extraction import create_feature_extractor

        names = models.list_models(module=models)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3)
            hint = f"; did you mean {' or '.join(f'torchvision:{near}' for near in close)}?"
            raise ValueError(f"unknown torchvision network {name!r}{hint if close else ''}")
        published = models.get_model_weights(name).DEFAULT
        preprocessing = published.transforms()
        super().__init__(
            getattr(preprocessing, "mean", IMAGENET_MEAN),
            getattr(preprocessing, "std", IMAGENET_STD),
        )
        model = models.get_model(name, weights=None, num_classes=num_classes)
        head = next((name for name in _HEADS if hasattr(model, name)), None)
        nodes = _map_and_vector(model, head) if head else None
        if head is None or nodes is None:
            raise ValueError(
                f"the torchvision network {name!r} has no head that takes in a pooled feature map; "
                "choose another network, or the same network from timm"
            )
        if weights == "pretrained":
            with downloaded(f"torchvision:{name}"):
                tensors = published.get_state_dict(progress=False, check_hash=True)
            fill(model, tensors, Path(published.url), (head,))
        elif weights is not None:
            load_weights_file(model, Path(weights), (head,))
        self.body = create_feature_extractor(
            model, return_nodes={nodes[0]: "map", nodes[1]: "vector"}
        )
        self.own_head: nn.Module = model.get_submodule(head)

    def encode(self, views: Tensor) -> Features:
        features = self.body(views)
        return Features(features["map"], features["vector"])

    def head_module(self) -> nn.Module:
        return self.own_head


def _map_and_vector(model: nn.Module, head: str) -> tuple[str, str] | None:
    """Names of the traced values that are the last feature map and the input of the head."""
    from torch.fx.passes.shape_prop import ShapeProp
    from torchvision import ops
    from torchvision.models.feature_extraction import NodePathTracer

    model.eval()
    try:
        # Traced in the same way as ``create_feature_extractor``, so that names agree.
        blocks = [kind for kind in vars(ops).values() if inspect.isclass(kind)]
        tracer = NodePathTracer(
            autowrap_modules=(math, ops),
            leaf_modules=[kind for kind in blocks if issubclass(kind, nn.Module)],
        )
        graph = tracer.trace(model)
        # Large enough that no map is a single cell, as if it were pooled.
        ShapeProp(fx.GraphModule(tracer.root, graph)).propagate(torch.zeros(1, 3, 128, 128))
    except (TypeError, RuntimeError, fx.proxy.TraceError):
        return None
    finally:
        model.train()
    paths = tracer.node_to_qualname
    first = next((node for node in graph.nodes if paths.get(node, "").startswith(head)), None)
    if first is None:
        return None
    vector = node = first.args[0]
    if len(_shape(vector)) != 2:
        return None
    while len(_shape(node)) == 2 or _shape(node)[2:] == (1, 1):
        node = node.args[0]
    return (paths[node], paths[vector]) if len(_shape(node)) == 4 else None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)
