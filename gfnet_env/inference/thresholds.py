"""Confidence thresholds that let wanted shares of images exit at each step."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# No confidence reaches it.
NEVER = 2.0


def geometric_shares(ratio: float, steps: int) -> npt.NDArray[np.float64]:
    """Exit shares q_t ∝ ratio^t of ``steps`` steps (GFNet, section 4.1; MSDNet, Huang et al. 2018).

    Raises:
        ValueError: The ratio is not positive.
    """
    if ratio <= 0:
        raise ValueError(f"ratio must be positive, not {ratio}")
    shares = ratio ** np.arange(1, steps + 1, dtype=np.float64)
    return shares / shares.sum()


def thresholds_for_shares(
    confidence: npt.NDArray[np.floating], shares: Sequence[float] | npt.NDArray[np.float64]
) -> list[float]:
    """Thresholds under which those shares of the given images exit at each step.

    Args:
        confidence: Of N images after each of T steps, (N, T), on a split kept for this.
        shares: How many of the N images are to exit at each step, (T,), adding up to 1.

    Returns:
        T thresholds; an image exits at the first step whose threshold its confidence reaches. The
        last is 0. Equal confidences exit together, so a share can only be met as nearly as they
        allow.

    Raises:
        ValueError: A shape is wrong, or a number is negative or not finite.
    """
    shares = np.asarray(shares, dtype=np.float64)
    if confidence.ndim != 2 or len(confidence) == 0 or shares.shape != (confidence.shape[1],):
        raise ValueError(
            f"confidence must be (N, T) and shares (T,), not {confidence.shape} and {shares.shape}"
        )
    if not (np.isfinite(confidence).all() and np.isfinite(shares).all() and (shares >= 0).all()):
        raise ValueError("confidences and shares must be finite, and shares at least 0")
    if not np.isclose(shares.sum(), 1):
        raise ValueError(f"shares must add up to 1, not {shares.sum()}")
    wanted = np.round(np.cumsum(shares) * len(confidence)).astype(int)
    thresholds = []
    remaining = confidence
    for step in range(len(shares) - 1):
        exits = wanted[step] - (len(confidence) - len(remaining))
        threshold = _threshold_for(remaining[:, step], exits)
        thresholds.append(threshold)
        remaining = remaining[remaining[:, step] < threshold]
    return [*thresholds, 0.0]


def exit_steps(
    confidence: npt.NDArray[np.floating], thresholds: Sequence[float]
) -> npt.NDArray[np.int64]:
    """The step at which each image exits, (N,) in [0, T - 1], by its confidences (N, T)."""
    reached = confidence >= np.asarray(thresholds)
    reached[:, -1] = True
    return reached.argmax(axis=1)


def _threshold_for(confidence: npt.NDArray[np.floating], exits: int) -> float:
    """The threshold that the ``exits`` highest of these confidences reach."""
    if exits <= 0:
        return NEVER
    if exits >= len(confidence):
        return 0.0
    return float(np.sort(confidence)[-exits])
