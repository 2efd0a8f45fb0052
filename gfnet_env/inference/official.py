"""Load the checkpoints that GFNet's authors released as assembled networks."""

import dataclasses
import pickle
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfnet_env.files import load_tensors
from gfnet_env.inference.early_exit import EarlyExitGFNet
from gfnet_env.looks import Interpolation
from gfnet_env.models import GlanceFocusNetwork, NetworkConfig, TrainingData
from gfnet_env.models.gfnet import GlanceLogits
from gfnet_env.paths import user_path
from gfnet_env.policies.recurrent import RecurrentPolicy


@dataclass(frozen=True)
class _Architecture:
    """Facts that a checkpoint does not hold; see ``NetworkConfig`` and ``TrainingData``."""

    interpolation: Interpolation
    glance_logits: GlanceLogits | None = None
    image_size: int = 224
    crop: float = 0.875


_ARCHITECTURES = {
    "resnet50": _Architecture("bicubic"),
    **dict.fromkeys(("densenet121", "densenet169", "densenet201"), _Architecture("bilinear")),
    **dict.fromkeys(("mobilenetv3_large_100", "mobilenetv3_large_125"), _Architecture("bicubic")),
    "efficientnet_b2": _Architecture("bicubic", image_size=260),
    "efficientnet_b3": _Architecture("bicubic", image_size=300, crop=0.904),
    **dict.fromkeys(
        ("regnety_600m", "regnety_800m", "regnety_1.6g"),
        _Architecture("bilinear", glance_logits="encoder"),
    ),
}

# The parts of a checkpoint.
_GLOBAL, _LOCAL, _CLASSIFIER, _POLICY = "model_prime_state_dict", "model_state_dict", "fc", "policy"

# The authors' RegNets come from pycls; these patterns turn its names into timm's.
_REGNET_NAMES = (
    (r"^(s\d+\.b\d+)\.proj\.", r"\1.downsample.conv."),
    (r"^(s\d+\.b\d+)\.bn\.", r"\1.downsample.bn."),
    (r"\.f\.a\.", ".conv1.conv."),
    (r"\.f\.a_bn\.", ".conv1.bn."),
    (r"\.f\.b\.", ".conv2.conv."),
    (r"\.f\.b_bn\.", ".conv2.bn."),
    (r"\.f\.c\.", ".conv3.conv."),
    (r"\.f\.c_bn\.", ".conv3.bn."),
    (r"\.f\.se\.f_ex\.0\.", ".se.fc1."),
    (r"\.f\.se\.f_ex\.2\.", ".se.fc2."),
    (r"^fc\.", "head.fc."),
)


def load_official(
    path: str | Path, *, interpolation: Interpolation | None = None
) -> EarlyExitGFNet:
    """Read a checkpoint (``*.pth.tar``) that the authors of GFNet released.

    Its predictions equal those of the authors' code, except for rounding. ``model.trained_on`` says
    how the authors cropped pictures for evaluation. Thresholds are not set; ``calibrate`` solves
    them.

    Args:
        path: The file.
        interpolation: How overviews are resized; by default as in the authors' code, bilinear for
            DenseNets and RegNets and bicubic for the others.

    Returns:
        The network, on the CPU. It can be saved and loaded like any other.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged, would run code on loading, or is not such a checkpoint.
    """
    path = user_path(path)
    checkpoint = _read(path)
    parts = {
        part: _without_wrapper(checkpoint[part], part, path)
        for part in (_GLOBAL, _LOCAL, _CLASSIFIER, _POLICY)
    }
    config = _config(checkpoint, parts[_CLASSIFIER], path)
    if interpolation is not None:
        config = dataclasses.replace(config, interpolation=interpolation)
    network = GlanceFocusNetwork(config)
    tensors = {
        **_encoder_tensors("global_encoder", parts[_GLOBAL], network),
        **_encoder_tensors("local_encoder", parts[_LOCAL], network),
        **_classifier_tensors(parts[_CLASSIFIER], network.focus_steps),
    }
    load_tensors(network, tensors, path)
    return EarlyExitGFNet(network, _policy(parts[_POLICY], network, path))


def _config(
    checkpoint: Mapping[str, Any], classifier: Mapping[str, Tensor], path: Path
) -> NetworkConfig:
    """How to build the network of a checkpoint."""
    architecture = _ARCHITECTURES[checkpoint["model_name"]]
    recurrent = "rnn.weight_hh_l0" in classifier
    first_layer = classifier.get("fc.weight" if recurrent else "fc_2.weight")
    if first_layer is None:
        raise ValueError(f"{path} holds an unknown classifier: {', '.join(classifier)}")
    return NetworkConfig(
        encoder=checkpoint["model_name"],
        patch_size=int(checkpoint["patch_size"]),
        num_classes=len(first_layer),
        focus_steps=len(checkpoint["flops"]) - 1,
        classifier="recurrent" if recurrent else "cascade",
        memory_size=classifier["rnn.weight_hh_l0"].shape[1] if recurrent else None,
        glance_logits=architecture.glance_logits,
        interpolation=architecture.interpolation,
        antialias=False,
        align_corners=True,
        corner_rounding="floor",
        trained_on=TrainingData(
            images="imagenet",
            image_size=architecture.image_size,
            fit="crop",
            crop=architecture.crop,
            source=path.name,
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals(_numpy_makers()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain values; loading those would "
            f"run code, so it is refused: {str(error).splitlines()[0]}"
        ) from error
    # With a damaged file, zipfile and torch raise errors of many kinds.
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}); download it again") from error
    wanted = ("model_name", "patch_size", "flops", _GLOBAL, _LOCAL, _CLASSIFIER, _POLICY)
    found = checkpoint if isinstance(checkpoint, dict) else {}
    missing = [key for key in wanted if found.get(key) is None]
    if missing:
        raise ValueError(
            f"{path} is not a released checkpoint of GFNet: it has no {', '.join(missing)}"
        )
    name, costs = found["model_name"], found["flops"]
    if not isinstance(costs, Sized):
        raise ValueError(f"flops in {path} is {costs!r}, not a list with one per step")
    if len(costs) < 2:
        raise ValueError(f"{path} has {len(costs)} steps; a GFNet has at least two")
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise ValueError(
            f"{path} holds the unknown model {name!r}; known: {', '.join(_ARCHITECTURES)}"
        )
    return found


def _numpy_makers() -> list[Any]:
    """The functions that unpickle numpy's numbers and arrays; they run no code of the file."""
    number, array = (value.__reduce__()[0] for value in (np.float64(0), np.zeros(1)))
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # Also under their names before numpy 2.
    former = "numpy.core.multiarray"
    renamed = [(number, f"{former}.scalar"), (array, f"{former}._reconstruct")]
    return [np.ndarray, np.dtype, *kinds, number, array, *renamed]


def _without_wrapper(tensors: Any, part: str, path: Path) -> dict[str, Tensor]:
    """A part's tensors, by names without the ``module.`` of ``DataParallel``."""
    if not isinstance(tensors, Mapping) or not all(
        isinstance(value, Tensor) for value in tensors.values()
    ):
        raise ValueError(f"{part} in {path} is not a state dict; download the file again")
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def _encoder_tensors(
    part: str, tensors: Mapping[str, Tensor], network: GlanceFocusNetwork
) -> dict[str, Tensor]:
    """An encoder's tensors by their names in a network."""
    names = _REGNET_NAMES if network.config.encoder.startswith("regnety") else ()
    renamed = {}
    for key, value in tensors.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        renamed[f"{part}.model.{key}"] = value
    encoder = network.get_submodule(part)
    return renamed | {f"{part}.{name}": getattr(encoder, name) for name in ("mean", "std")}


def _classifier_tensors(tensors: Mapping[str, Tensor], focus_steps: int) -> dict[str, Tensor]:
    """The classifier's tensors by their names in a network, without the layers of later steps."""
    renamed = {}
    for key, value in tensors.items():
        layer = re.fullmatch(r"fc_(\d+)\.(\w+)", key)
        if layer is None:
            key = _cell_name(key, "rnn").replace("fc.", "linear.")
            renamed[f"classifier.{key}"] = value
        elif int(layer[1]) <= 1 + focus_steps:
            renamed[f"classifier.layers.{int(layer[1]) - 2}.{layer[2]}"] = value
    return renamed


def _policy(
    tensors: Mapping[str, Tensor], network: GlanceFocusNetwork, path: Path
) -> RecurrentPolicy:
    first = tensors.get("state_encoder.0.weight")
    recurrent = tensors.get("gru.weight_hh_l0")
    if first is None or recurrent is None:
        raise ValueError(f"{path} holds an unknown policy: {', '.join(tensors)}")
    convolves = first.ndim == 4
    policy = RecurrentPolicy(
        network.feature_shape,
        hidden_size=recurrent.shape[1],
        squeezed_channels=len(first) if convolves else None,
        flat_size=None if convolves else len(first),
    )
    renamed = {}
    for key, value in tensors.items():
        # Here, flattening is a separate layer before the first one.
        if not convolves:
            key = re.sub(r"state_encoder\.(\d)", lambda at: f"encoder.{int(at[1]) + 1}", key)
        key = _cell_name(key.replace("state_encoder.", "encoder."), "gru")
        if not key.startswith("critic."):
            renamed[key.replace("actor.0.", "actor.")] = value
    load_tensors(policy, renamed, path)
    return policy


def _cell_name(key: str, layer: str) -> str:
    """The name in a ``GRUCell`` of a tensor of a one-layer ``GRU``."""
    return key.replace(f"{layer}.", "cell.").removesuffix("_l0") if key.startswith(layer) else key
