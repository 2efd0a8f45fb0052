"""Files of weights, for networks whose classes may be others than those of the file."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from gfnet_env.files import load_tensors


def load_weights_file(model: nn.Module, path: Path, heads: Sequence[str]) -> None:
    """Load a file of weights; of all it holds only the heads may not fit, which then stay new.

    Args:
        model: What to fill.
        path: Safetensors, or a ``.pth`` that is read without running pickled code.
        heads: Names of the modules that make logits.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or its weights do not fit.
    """
    from timm.models import load_state_dict

    if not path.is_file():
        raise FileNotFoundError(
            f"there is no weights file {path}; give 'pretrained' to download them"
        )
    try:
        # Said, since timm unpickles whatever there is by default in some of its versions.
        tensors = load_state_dict(str(path), device="cpu", weights_only=True)
    # Whatever a damaged file makes safetensors, zipfile or the unpickler say.
    except Exception as error:
        raise ValueError(f"cannot read the weights file {path}: {error}") from error
    fill(model, tensors, path, heads)


def fill(model: nn.Module, tensors: dict[str, Tensor], path: Path, heads: Sequence[str]) -> None:
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
    wanted = model.state_dict()
    prefixes = tuple(f"{head}." for head in heads)
    kept = {
        key: wanted[key]
        for key, value in tensors.items()
        if key.startswith(prefixes) and key in wanted and value.shape != wanted[key].shape
    }
    load_tensors(model, tensors | kept, path)
