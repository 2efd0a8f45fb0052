"""The loss of classifying images."""

from torch import Tensor
from torch.nn import functional


def cross_entropies(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of each image, (B,), for logits (B, K) of any precision."""
    return functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing
    )
