"""Files of weights, whose classes may differ from those of the network."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from gfnet_env.files import load_tensors

Tensors = dict[str, Tensor]


def load_weights_file(
    model: nn.Module,
    path: Path,
    heads: Sequence[str],
    adapt: Callable[[Tensors], Tensors] | None = None,
) -> None:
    """Load a file of weights. Only the heads may differ in shape; they then stay new.

    Args:
        model: What to fill.
        path: Safetensors, or a ``.pth`` that is read without running pickled code.
        heads: Names of the modules that make logits.
        adapt: Makes of a file's tensors those of another input size.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or its weights do not fit.
    """
    from timm.models import load_state_dict

    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no weights file {path}; give 'pretrained' to download them"
        )
    try:
        # Explicit, because some versions of timm unpickle by default.
        tensors = load_state_dict(str(path), device="cpu", weights_only=True)
    # Whatever a damaged file makes safetensors, zipfile or the unpickler say.
    except Exception as error:
        raise ValueError(f"cannot read the weights file {path}: {error}") from error
    fill(model, tensors, path, heads, adapt)


def fill(
    model: nn.Module,
    tensors: Tensors,
    path: Path,
    heads: Sequence[str],
    adapt: Callable[[Tensors], Tensors] | None = None,
) -> None:
    """Load tensors into a model; heads of other classes stay as they are.

    Raises:
        ValueError: Something else does not fit; the message names ``path``.
    """
    others = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{path} holds more than tensors: {', '.join(map(str, others[:3]))}; save the "
            "state dict alone"
        )
    if adapt is not None:
        try:
            tensors = adapt(tensors)
        # Whatever timm makes of tensors that it does not expect.
        except Exception as error:
            raise ValueError(f"the weights in {path} do not fit this network: {error}") from error
    wanted = model.state_dict()
    prefixes = tuple(f"{head}." for head in heads)
    kept = {
        key: wanted[key]
        for key, value in tensors.items()
        if key.startswith(prefixes) and key in wanted and value.shape != wanted[key].shape
    }
    load_tensors(model, tensors | kept, path)
