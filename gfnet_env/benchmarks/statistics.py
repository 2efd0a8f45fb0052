"""How sure a figure is, and how honest a confidence."""

import numpy as np
import numpy.typing as npt
from scipy import stats

_RESAMPLES = 1000


def mean_interval(
    values: npt.NDArray[np.generic], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of a mean: its percentiles over images drawn anew with replacement.

    Args:
        values: One per image, (N,).
        level: How often such intervals hold the mean of all images there could be.
        seed: Of the draws.

    Raises:
        ValueError: There are no values, or they are not a list.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values must be (N,) with N at least 1, not {values.shape}")
    values = values.astype(np.float64)
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=100,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def expected_calibration_error(
    confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of confidence (Guo et al., 2017, eq. 3).

    Args:
        confidence: Of N images, (N,) in [0, 1].
        correct: Whether the class was the true one, (N,).
        bins: How many, equally wide.
    """
    number = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(number, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
