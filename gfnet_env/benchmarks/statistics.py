"""Confidence intervals and calibration errors.

scipy.stats is slow to import and most of the library does without it, so functions import it.
"""

import numpy as np
import numpy.typing as npt

_RESAMPLES = 1000
_LEVEL = 0.95


def mean_interval(
    values: npt.NDArray[np.generic], groups: npt.NDArray[np.integer] | None = None, seed: int = 0
) -> tuple[float, float]:
    """Bounds of the 95% bootstrap interval of a mean over images (percentile method).

    Args:
        values: One per image, (N,).
        groups: Original that each image was made from, (N,); images of one original are drawn
            together. None draws single images.
        seed: Seed of the draws.

    Raises:
        ValueError: A shape is wrong, or all values belong to one group.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values must be (N,) with N at least 1, not {values.shape}")
    values = values.astype(np.float64)
    if groups is not None and groups.shape != values.shape:
        raise ValueError(f"groups must be {values.shape}, one per value, not {groups.shape}")
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    drawn = np.arange(len(values)) if groups is None else groups
    names, member = np.unique(drawn, return_inverse=True)
    if len(names) == 1:
        raise ValueError("all values belong to one group, which says nothing about others")
    from scipy import stats

    interval = stats.bootstrap(
        (np.bincount(member, weights=values), np.bincount(member)),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        n_resamples=_RESAMPLES,
        batch=100,
        paired=True,
        vectorized=True,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def interquartile_mean(scores: npt.NDArray[np.floating]) -> float:
    """Mean of the middle half of some runs' scores, (R,) (Agarwal et al., 2021, section 4.3)."""
    from scipy import stats

    return float(stats.trim_mean(scores, 0.25))


def interquartile_mean_interval(scores: npt.NDArray[np.floating]) -> tuple[float, float] | None:
    """Bounds of the 95% bootstrap interval of the interquartile mean of runs' scores, (R,).

    Returns:
        The bounds, or None for a single run, which says nothing about others.
    """
    if len(scores) == 1:
        return None
    draws = np.random.default_rng(0).integers(len(scores), size=(_RESAMPLES, len(scores)))
    from scipy import stats

    means = stats.trim_mean(scores[draws], 0.25, axis=1)
    low, high = np.percentile(means, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return float(low), float(high)


def probability_of_improvement(
    scores: npt.NDArray[np.floating], others: npt.NDArray[np.floating]
) -> float:
    """Probability that one kind of run beats another (Agarwal et al., 2021, section 4.3).

    Args:
        scores: Scores of the runs of the first kind, (R,).
        others: Scores of the runs of the second kind, (S,).

    Returns:
        The share of pairs that the first kind wins; a tie counts as half.
    """
    from scipy import stats

    wins = stats.mannwhitneyu(scores, others).statistic
    return float(wins / (len(scores) * len(others)))


def expected_calibration_error(
    confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of confidence (Guo et al., 2017, eq. 3).

    Args:
        confidence: Confidence of N images, (N,) in [0, 1].
        correct: Whether the predicted class was the true one, (N,).
        bins: Number of bins, equally wide.
    """
    number = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(number, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
