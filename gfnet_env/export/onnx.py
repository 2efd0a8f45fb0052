"""Export to ONNX: one graph for each step, and JSON for the rest."""

import dataclasses
import importlib.util
import inspect
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gfnet_env import rows
from gfnet_env.exits import Signal
from gfnet_env.files import replace_files, sealed, sha256, write_bytes
from gfnet_env.images import ImageSet, large, picture
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.looks import Look
from gfnet_env.models import Model, State, StaticNetwork, blank_state, glance_view
from gfnet_env.paths import user_path
from gfnet_env.policies.base import Memory, Policy, Starts, as_looks, shown_to

if TYPE_CHECKING:
    from onnx import ModelProto

    Graphs = Mapping[str, ModelProto]

# Inputs or outputs of a graph, by name: tensors with B rows.
Named = Mapping[str, Tensor]

# For tracing: with one row, the batch size would become a constant.
_ROWS = 2


def export_onnx(gfnet: EarlyExitGFNet, folder: str | Path) -> None:
    """Write a network as a folder that runs without torch and without this library.

    The folder holds ``glance.onnx`` and ``focus.onnx``, one graph for each step, which take batches
    of any size and decide where to look next; ``gfnet.json`` with thresholds, class names and
    geometry; and ``classify.py``, which needs numpy, Pillow and onnxruntime. If the process is
    killed, the folder holds either all old files or all new ones.

    Args:
        gfnet: The assembled network, with its thresholds.
        folder: Made if missing.

    Raises:
        ImportError: The packages that write ONNX are missing.
        ValueError: The model or the policy is not a torch module or cannot be traced; the policy's
            memory changes its shape, or starts with more than an observation shows; or Pillow
            cannot resize in the same way as the model.
    """
    replace_files(user_path(folder), exported_files(gfnet))


def exported_files(gfnet: EarlyExitGFNet) -> dict[str, bytes]:
    """The files that ``export_onnx`` writes, by name; it raises the same errors."""
    return _content(gfnet, *_traced(gfnet))


def export_int8(
    gfnet: EarlyExitGFNet,
    folder: str | Path,
    calibration: ImageSet,
    test: ImageSet,
    float_folder: str | Path | None = None,
) -> dict[str, float]:
    """``export_onnx`` with convolutions of 8-bit integers, by onnxruntime's static quantisation.

    The first convolutions, policy, classifier and certainty stay float. ``gfnet.json`` holds the
    accuracies too.

    Args:
        gfnet: The assembled network, with its thresholds.
        folder: Made if missing.
        calibration: Pictures whose glances and windows set the ranges of the integers.
        test: Pictures to measure the accuracy on.
        float_folder: Where the network is written in floating point too, if anywhere.

    Returns:
        The accuracies on the test pictures, ``float32`` and ``int8``, in [0, 1].

    Raises:
        ImportError: See ``export_onnx``.
        ValueError: See ``export_onnx``; or there are no convolutions, or no calibration picture is
            looked at.
    """
    parts, policies = _traced(gfnet)
    # Only here: they need packages that may be missing.
    from gfnet_env.export.int8 import accuracy, in_memory, quantised
    from gfnet_env.export.runner import Runner
    from gfnet_env.export.steps import pruned

    with tempfile.TemporaryDirectory() as floats, tempfile.TemporaryDirectory() as integers:
        written = user_path(floats if float_folder is None else float_folder)
        replace_files(written, _content(gfnet, parts, policies))
        runner = Runner(written)
        parts = quantised(pruned(parts, policies), runner, in_memory(calibration))
        replace_files(Path(integers), _content(gfnet, parts, policies))
        found = {
            "float32": accuracy(runner, test),
            "int8": accuracy(Runner(integers), test),
        }
    replace_files(user_path(folder), _content(gfnet, parts, policies, accuracy=found))
    return found


def _traced(gfnet: EarlyExitGFNet) -> tuple["Graphs", "Graphs"]:
    """What is known after glance and focus, and what is decided then."""
    check_packages()
    _check_model(gfnet.model)
    _check_policy(gfnet.policy)
    graphs = {name: _graph(name, *part) for name, part in _parts(gfnet).items()}
    policies = {"glance": graphs.get("start", graphs["policy"]), "focus": graphs["policy"]}
    return {name: graphs[name] for name in policies}, policies


def _content(
    gfnet: EarlyExitGFNet, parts: "Graphs", policies: "Graphs", **measured: Any
) -> dict[str, bytes]:
    """The files of an exported folder; ``gfnet.json`` has digests of the graphs and of itself."""
    # Only here: they need packages that may be missing.
    from gfnet_env.export.runner import FORMAT
    from gfnet_env.export.steps import join_steps

    steps = join_steps(parts, policies)
    graphs = {f"{name}.onnx": graph.SerializeToString() for name, graph in steps.items()}
    digests = {"files_sha256": {name: sha256(graph) for name, graph in graphs.items()}}
    settings = sealed({"format": FORMAT, **_settings(gfnet), **measured, **digests})
    return {**graphs, "gfnet.json": settings, **_sources()}


def export_static(network: StaticNetwork, path: str | Path) -> None:
    """Write a static network as one graph, which maps pixels (B, R, R, 3) to logits.

    It raises the same errors as ``export_onnx``.
    """
    check_packages()
    pixels = _blank_pixels(network.view.size, network.device)
    graph = _graph("static", _Static(network), {"pixels": pixels})
    write_bytes(user_path(path), graph.SerializeToString())


def check_packages() -> None:
    """Raises ``ImportError`` unless the packages for exporting and running are installed."""
    needed = ("onnx", "onnxruntime", "onnxscript")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} must be installed to export: pip install 'gfnet-env[onnx]'"
        )


def _check_model(model: Model) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"a model of type {type(model).__name__} cannot be exported: it is not a torch module"
        )
    if not model.view.antialias or model.view.align_corners:
        raise ValueError(
            "a network that does not antialias its views cannot be exported, nor can one that "
            "aligns corners: the exported folder resizes with Pillow, which always antialiases and "
            "never aligns corners"
        )


def _check_policy(policy: Policy) -> None:
    if not isinstance(policy, nn.Module):
        raise ValueError(
            f"a policy of type {type(policy).__name__} cannot be exported: it is not a torch "
            "module; learn one, or write one as a module"
        )
    if isinstance(policy, Starts):
        raise ValueError(
            f"the policy {type(policy).__name__} cannot be exported: its memory begins with more "
            "than an observation shows"
        )


@torch.no_grad()
def _parts(gfnet: EarlyExitGFNet) -> dict[str, tuple[nn.Module, Named]]:
    """Each part, with example inputs."""
    model, policy, certainty = gfnet.model, gfnet.policy, gfnet.certainty
    state = blank_state(model, _ROWS)
    known = _named_state(state)
    start = _Decision(policy, model, type(state), None)
    looks, memory = start.decide(known)
    looked = {"location": looks.location, "scale": looks.scale}
    decision = _Decision(policy, model, type(state), memory)
    remembering = known | _named_memory(memory)
    later = decision.decide(remembering)[1]
    if _shapes(memory) != _shapes(later):
        raise ValueError(
            f"the policy {type(policy).__name__} cannot be exported: its memory changes its shape "
            "from step to step"
        )
    overviews, windows = (
        {"pixels": _blank_pixels(view.size, model.device)}
        for view in (glance_view(model), model.view)
    )
    graphs: dict[str, tuple[nn.Module, Named]] = {
        "glance": (_Glance(model, certainty), overviews | {"size": state.size}),
        "policy": (decision, remembering),
        "focus": (_Focus(model, certainty, type(state)), known | looked | windows),
    }
    if memory is not None:
        graphs["start"] = (start, known)
    return graphs


def _shapes(memory: Memory) -> list[tuple[torch.Size, torch.dtype]]:
    return [(each.shape, each.dtype) for each in rows.tensors(memory)]


class _Glance(nn.Module):
    """A glance at pictures scaled down, (B, P, P, 3), of given (height, width)."""

    def __init__(self, model: Model, certainty: Signal) -> None:
        super().__init__()
        self.model, self.certainty = model, certainty

    def forward(self, given: Named) -> Named:
        features = self.model.encode_overview(_channels_first(given["pixels"]))
        state = self.model.begin(features, given["size"])
        return _named_state(state) | _answer(state, self.certainty)


class _Focus(nn.Module):
    """A look at windows (B, P, P, 3)."""

    def __init__(self, model: Model, certainty: Signal, kind: type[State]) -> None:
        super().__init__()
        self.model, self.certainty, self.kind = model, certainty, kind

    def forward(self, given: Named) -> Named:
        features = self.model.encode_window(_channels_first(given["pixels"]))
        looks = Look.at(given["location"], given["scale"])
        state = self.model.look(features, looks, _state(self.kind, given))
        # Unchanged tensors are not outputs.
        after = _named_state(state).items()
        changed = {name: value for name, value in after if value is not given.get(name)}
        return changed | _answer(state, self.certainty)


class _Decision(nn.Module):
    """A policy, which maps the state to its looks and their windows."""

    def __init__(self, policy: Policy, model: Model, kind: type[State], memory: Memory) -> None:
        super().__init__()
        self.policy, self.kind, self.view, self.memory = policy, kind, model.view, memory
        self.observation = shown_to(policy, model)

    def decide(self, given: Named) -> tuple[Look, Memory]:
        state = _state(self.kind, given)
        remembered = (given[name] for name in _named_memory(self.memory))
        memory = rows.map_tensors(lambda _: next(remembered), self.memory)
        decided, memory = self.policy(self.observation(state), memory)
        return as_looks(self.policy, decided, state), memory

    def forward(self, given: Named) -> Named:
        looks, memory = self.decide(given)
        boxes = self.view.window_boxes(looks, given["size"])
        return vars(looks) | {"box": boxes} | _named_memory(memory)


class _Static(nn.Module):
    """A static network on pictures (B, R, R, 3)."""

    def __init__(self, network: StaticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Named) -> Named:
        return {"logits": self.network(_channels_first(given["pixels"]))}


def _named_state(state: State) -> dict[str, Tensor]:
    names = (field.name for field in dataclasses.fields(state))
    known = ((name, getattr(state, name)) for name in names)
    return {name: value for name, value in known if value is not None}


def _answer(state: State, certainty: Signal) -> dict[str, Tensor]:
    return {"probabilities": state.probabilities, "certainty": certainty(state)}


def _state(kind: type[State], given: Named) -> State:
    names = (field.name for field in dataclasses.fields(kind))
    return kind(**{name: given[name] for name in names if name in given})


def _named_memory(memory: Memory) -> dict[str, Tensor]:
    return {f"policy_memory_{place}": tensor for place, tensor in enumerate(rows.tensors(memory))}


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2)


def _blank_pixels(side: int, device: torch.device) -> Tensor:
    return torch.zeros(_ROWS, side, side, 3, dtype=torch.uint8, device=device)


def _graph(name: str, module: nn.Module, given: Named) -> "ModelProto":
    """The graph of a part, traced with example inputs."""
    batch = torch.export.Dim("batch")
    # The exporter would treat one tensor under two names as a single input.
    given = {key: tensor.clone() for key, tensor in given.items()}
    # Names of inputs and outputs must differ.
    outputs = [f"new_{key}" if key in given else key for key in module.eval()(given)]
    try:
        with warnings.catch_warnings():
            # Warnings about the names of axes, and about deprecations within the exporter.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                kwargs={"given": given},
                dynamo=True,
                input_names=list(given),
                output_names=outputs,
                dynamic_shapes={"given": {key: {0: batch} for key in given}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = next(filter(str.strip, str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"the {name} cannot be exported: {reason}; a module must run without branches on the "
            "values of tensors"
        ) from error
    assert program is not None
    return program.model_proto


def _settings(gfnet: EarlyExitGFNet) -> dict[str, Any]:
    model, data = gfnet.model, gfnet.model.trained_on
    return {
        "patch_size": model.view.size,
        "glance_size": glance_view(model).size,
        "focus_steps": model.focus_steps,
        "interpolation": model.view.interpolation,
        "aspect": model.view.aspect,
        "fit": data.fit,
        "image_size": data.image_size,
        "crop": data.crop,
        "class_names": list(model.class_names or map(str, range(model.num_classes))),
        "thresholds": list(gfnet.thresholds),
        "multiply_adds": gfnet.multiply_adds,
        "stop_multiply_adds": gfnet.stop_multiply_adds,
    }


def _sources() -> dict[str, bytes]:
    """The runner, and beside it the modules that it imports."""
    sources = {
        "classify.py": Path(__file__).with_name("runner.py").read_text(),
        "large.py": inspect.getsource(large),
        "picture.py": inspect.getsource(picture),
    }
    for name, source in sources.items():
        sources[name] = source.replace("from gfnet_env.images.", "from ")
        assert "gfnet_env" not in sources[name]
    return {name: source.encode() for name, source in sources.items()}
