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
from gfnet_env.perception import Encoder, StaticNetwork, Step
from gfnet_env.perception.classifiers import Classifier

# As little as a graph can be traced with: at one row, the batch would be taken for a constant.
_ROWS = 2


def export_onnx(gfnet: EarlyExitGFNet, folder: str | Path) -> None:
    """Write a network as a folder that runs where there is neither torch nor this library.

    It holds ``glance.onnx``, ``focus.onnx``, ``policy.onnx`` and ``classifier.onnx``, which take
    batches of any size, ``gfnet.json`` with thresholds, class names and geometry, and
    ``classify.py``, which needs numpy, Pillow and onnxruntime.

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
    pixels = torch.zeros(_ROWS, 3, size, size, dtype=torch.uint8, device=network.device)
    with torch.no_grad():
        step = network.glance(pixels)
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
    }
    viewed = {"vector": step.vector, "memory": step.memory, "number": step.number}
    graphs: dict[str, tuple[nn.Module, Mapping[str, Tensor], tuple[str, ...]]] = {
        "glance": (_View(network.global_encoder), {"pixels": pixels}, ("features", "vector")),
        "focus": (_View(network.local_encoder), {"pixels": pixels}, ("features", "vector")),
        "policy": (_Pick(policy, network.focus_steps), seen, ("picked",)),
        "classifier": (_Classify(network.classifier), viewed, ("remembered", "logits")),
    }
    if network.glance_logits == "encoder":
        glance = _ViewAndAnswer(network.global_encoder)
        graphs["glance"] = (glance, {"pixels": pixels}, ("features", "vector", "logits"))
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
    """Write a static network as one graph, from pixels at its resolution to logits.

    Raises:
        ImportError: The packages that write ONNX are missing.
    """
    check_packages()
    side = network.config.resolution
    pixels = torch.zeros(_ROWS, 3, side, side, dtype=torch.uint8, device=network.device)
    _write_graph(Path(path), "static", network, {"pixels": pixels}, ("logits",))


def _settings(gfnet: EarlyExitGFNet) -> dict[str, Any]:
    network, config = gfnet.network, gfnet.network.config
    return {
        "patch_size": network.patch_size,
        "focus_steps": network.focus_steps,
        "memory_size": network.memory_size,
        "interpolation": config.interpolation,
        "corner_rounding": config.corner_rounding,
        "image_size": config.metadata.get("image_size"),
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


class _View(nn.Module):
    """An encoder whose results are a plain tuple."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(pixels)
        return features.map, features.vector


class _ViewAndAnswer(nn.Module):
    """An encoder whose results include its own logits."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encoder(pixels)
        return features.map, features.vector, self.encoder.head(features.vector)


class _Pick(nn.Module):
    """A policy that makes its observation itself, by the one function there is for it."""

    def __init__(self, policy: nn.Module, focus_steps: int) -> None:
        super().__init__()
        self.policy = policy
        self.focus_steps = focus_steps

    def forward(
        self,
        features: Tensor,
        glance: Tensor,
        seen: Tensor,
        memory: Tensor,
        location: Tensor,
        number: Tensor,
    ) -> Tensor:
        nothing = memory[:, :0]
        step = Step(features, nothing, glance, seen, memory, nothing, location, number)
        picked, _ = self.policy(observe(step, self.focus_steps), None)
        return picked


class _Classify(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, vector: Tensor, memory: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(vector, memory, number)


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
