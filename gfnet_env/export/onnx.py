"""Export to ONNX: one graph for each part, everything else as JSON."""

import importlib.util
import inspect
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_env.data import picture
from gfnet_env.env.observation import observe
from gfnet_env.files import write_atomically, write_json, write_text
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.perception import GlanceFocusNetwork, StaticNetwork, Step
from gfnet_env.perception.geometry import covered, patch_corners

# As little as a graph can be traced with: at one row, the batch would be taken for a constant.
_ROWS = 2


def export_onnx(gfnet: EarlyExitGFNet, folder: str | Path) -> None:
    """Write a network as a folder that runs where there is neither torch nor this library.

    It holds ``glance.onnx``, ``policy.onnx`` and ``focus.onnx``, which take batches of any size,
    ``gfnet.json`` with thresholds, class names and geometry, and ``classify.py``, which needs
    numpy, Pillow and onnxruntime.

    Args:
        gfnet: The assembled network, with the thresholds it is to run with.
        folder: Where; files of the same names are replaced.

    Raises:
        ImportError: The packages that write ONNX are missing.
        ValueError: The policy is no torch module, keeps a state, or cannot be traced; or the glance
            is resized in a way that Pillow does not have.
    """
    check_packages()
    network, policy = gfnet.network, gfnet.policy
    if not isinstance(policy, nn.Module):
        raise ValueError(
            f"a policy of type {type(policy).__name__} cannot be exported: it is no torch module; "
            "learn one, or write one as a module"
        )
    if not network.config.antialias or network.config.align_corners:
        raise ValueError(
            "a network that does not antialias its glance cannot be exported, nor one that aligns "
            "its corners: the exported folder resizes with Pillow, which does the one and not the "
            "other"
        )
    size = network.patch_size
    pictures = torch.zeros(_ROWS, size, size, 3, dtype=torch.uint8, device=network.device)
    with torch.no_grad():
        step = network.glance(pictures.permute(0, 3, 1, 2))
        _, state = policy(observe(step, network.focus_steps), None)
    if state is not None:
        raise ValueError(
            f"the policy {type(policy).__name__} cannot be exported: it keeps a state from step to "
            "step, which the exported folder does not"
        )
    seen = {
        "features": step.feature_map,
        # Of its own: the exporter takes one tensor in two places for one input.
        "glance": step.glance_map.clone(),
        "seen": step.seen,
        "memory": step.memory,
        "location": step.location,
        "number": step.number,
        "sizes": torch.full((_ROWS, 2), size, device=network.device),
    }
    looked = ("looked", "corners", "covered")
    viewed = ("features", "remembered", "probabilities")
    patch = {"pixels": pictures, "memory": step.memory, "number": step.number}
    graphs: dict[str, tuple[nn.Module, Mapping[str, Tensor], tuple[str, ...]]] = {
        "glance": (_Glance(network), {"pixels": pictures}, viewed),
        "policy": (_Pick(policy, network), seen, looked),
        "focus": (_Focus(network), patch, viewed),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Whole before anything is replaced: graphs of two networks must never lie side by side.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        for name, (module, inputs, outputs) in graphs.items():
            _write_graph(Path(temporary) / f"{name}.onnx", name, module, inputs, outputs)
        write_json(Path(temporary) / "gfnet.json", _settings(gfnet))
        for name, source in _sources().items():
            write_text(Path(temporary) / name, source)
        for path in Path(temporary).iterdir():
            os.replace(path, folder / path.name)


def export_static(network: StaticNetwork, path: str | Path) -> None:
    """Write a static network as one graph, from pixels (B, R, R, 3) at its resolution to logits.

    Raises:
        ImportError: The packages that write ONNX are missing.
    """
    check_packages()
    side = network.config.resolution
    pictures = torch.zeros(_ROWS, side, side, 3, dtype=torch.uint8, device=network.device)
    _write_graph(Path(path), "static", _Judge(network), {"pixels": pictures}, ("logits",))


def _settings(gfnet: EarlyExitGFNet) -> dict[str, Any]:
    network, config = gfnet.network, gfnet.network.config
    return {
        "patch_size": network.patch_size,
        "focus_steps": network.focus_steps,
        "interpolation": config.interpolation,
        "image_size": config.metadata.get("image_size"),
        "crop": config.metadata.get("crop", 1),
        "class_names": list(config.class_names or map(str, range(network.num_classes))),
        "thresholds": list(gfnet.thresholds),
        "multiply_adds": gfnet.multiply_adds,
    }


def _sources() -> dict[str, str]:
    """The runner and what it takes from this library, to lie side by side."""
    source = Path(__file__).with_name("runner.py").read_text()
    source = source.replace("from gfnet_env.data.picture", "from picture")
    assert "gfnet_env" not in source
    return {"classify.py": source, "picture.py": inspect.getsource(picture)}


class _Glance(nn.Module):
    """A glance at pictures as they are decoded, scaled down to (B, P, P, 3)."""

    def __init__(self, network: GlanceFocusNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = self.network.begin(self.network.global_encoder(pixels.permute(0, 3, 1, 2)))
        return step.feature_map, step.memory, step.probabilities


class _Focus(nn.Module):
    """A focus on patches (B, P, P, 3), the ``number``-th of their pictures."""

    def __init__(self, network: GlanceFocusNetwork) -> None:
        super().__init__()
        self.encoder = network.local_encoder
        self.classifier = network.classifier

    def forward(
        self, pixels: Tensor, memory: Tensor, number: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features, vector = self.encoder(pixels.permute(0, 3, 1, 2))
        memory, logits = self.classifier(vector, memory, number)
        return features, memory, logits.softmax(dim=1)


class _Pick(nn.Module):
    """A policy that makes its observation itself, and the geometry of the patch that it picks."""

    def __init__(self, policy: nn.Module, network: GlanceFocusNetwork) -> None:
        super().__init__()
        self.policy = policy
        self.config = network.config

    def forward(
        self,
        features: Tensor,
        glance: Tensor,
        seen: Tensor,
        memory: Tensor,
        location: Tensor,
        number: Tensor,
        sizes: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        nothing = memory[:, :0]
        step = Step(features, nothing, glance, seen, memory, nothing, location, number)
        picked, _ = self.policy(observe(step, self.config.focus_steps), None)
        patch_size = self.config.patch_size
        corners = patch_corners(picked, sizes, patch_size, self.config.corner_rounding)
        height, width = seen.shape[1:]
        return picked, corners, seen.maximum(covered(corners, sizes, patch_size, (height, width)))


class _Judge(nn.Module):
    """A static network of pictures as they are decoded."""

    def __init__(self, network: StaticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.permute(0, 3, 1, 2))


def _write_graph(
    path: Path, name: str, module: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]
) -> None:
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings():
            # About the names of axes, and deprecations within the exporter.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"the {name} cannot be exported: {_first_line(error)}; a module must run without "
            "branches on the values of tensors"
        ) from error

    assert program is not None
    write_atomically(path, lambda temporary: program.save(str(temporary), external_data=False))


def _first_line(error: Any) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_packages() -> None:
    """Raises ``ImportError`` unless everything that exporting and running takes is installed."""
    needed = ("onnx", "onnxruntime", "onnxscript")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} must be installed to export: pip install 'gfnet-env[onnx]'"
        )
