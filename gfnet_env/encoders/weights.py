"""Load files of weights, whose classes may differ from the network's."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gfnet_env.contracts import explained
from gfnet_env.files import load_tensors
from gfnet_env.paths import user_path

Tensors = dict[str, Tensor]


def load_timm_weights(
    model: Any, path: str | Path, adapt: Callable[[Tensors], Tensors] | None = None
) -> None:
    """``load_weights_file`` into a network of timm, which knows the names of its heads."""
    heads = model.pretrained_cfg["classifier"]
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    load_weights_file(model, Path(path), heads, adapt)


def load_weights_file(
    model: nn.Module,
    path: Path,
    heads: Sequence[str],
    adapt: Callable[[Tensors], Tensors] | None = None,
) -> None:
    """``fill`` a model from a file: safetensors, or a ``.pth``, whose pickled code never runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or its weights do not fit.
    """
    from timm.models import load_state_dict

    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no weights file {path}; give 'pretrained' to download them"
        )
    with explained(f"cannot read the weights file {path}"):
        # Explicit, because some versions of timm unpickle by default.
        tensors = load_state_dict(str(path), device="cpu", weights_only=True)
    fill(model, tensors, path, heads, adapt)


def fill(
    model: nn.Module,
    tensors: Tensors,
    path: Path,
    heads: Sequence[str],
    adapt: Callable[[Tensors], Tensors] | None = None,
) -> None:
    """Load tensors into a model.

    Args:
        model: The model.
        tensors: A state dict.
        path: Where it comes from, for messages.
        heads: Names of the modules that compute logits; they stay unchanged if the file has other
            classes.
        adapt: Converts tensors made for another input size.

    Raises:
        ValueError: Something does not fit.
    """
    others = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{path} holds more than tensors: {', '.join(map(str, others[:3]))}; save the "
            "state dict alone"
        )
    if adapt is not None:
        with explained(f"the weights in {path} do not fit this network"):
            tensors = adapt(tensors)
    wanted = model.state_dict()
    prefixes = tuple(f"{head}." for head in heads)
    kept = {
        key: wanted[key]
        for key, value in tensors.items()
        if key.startswith(prefixes) and key in wanted and value.shape != wanted[key].shape
    }
    load_tensors(model, tensors | kept, path)


def downloaded(name: str) -> AbstractContextManager[None]:
    """``explained`` for the download of the weights of a network."""
    advice = "; download them elsewhere and give the file"
    return explained(f"cannot get pretrained weights of {name}", advice)
