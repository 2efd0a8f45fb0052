"""The exit rules that come with the library."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gfnet_env.arrays import as_array
from gfnet_env.exits.base import EXITS, Signal, certainty_of, confidence
from gfnet_env.models.base import State
from gfnet_env.settings import checked


@EXITS.register("never")
def never(state: State) -> Tensor:
    """No picture exits before the last look, unless the policy stops."""
    return torch.zeros_like(state.number, dtype=torch.bool)


@EXITS.register("confidence")
class ConfidenceExit:
    """A picture exits after a look once its highest class probability reaches a threshold.

    Args:
        threshold: The probability, in [0, 1].

    Raises:
        ValueError: The threshold is out of range.
    """

    def __init__(self, threshold: float = 0.9) -> None:
        threshold = checked("threshold", threshold, float)
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold of confidence must be in [0, 1], not {threshold}")
        self.threshold = threshold

    def __call__(self, state: State) -> Tensor:
        return (state.number > 0) & (state.confidence >= self.threshold)


class ThresholdExit:
    """A picture exits at the first step whose threshold its certainty reaches (GFNet, 3.1).

    Args:
        thresholds: One per step, glance first. At 0 all pictures exit, above 1 none.
        certainty: How sure a picture's state is, (B,) in [0, 1]; by default its confidence.

    Raises:
        ValueError: There are no thresholds, or one is negative or not finite.
    """

    def __init__(self, thresholds: Sequence[float], certainty: Signal = confidence) -> None:
        array = as_array(thresholds, "thresholds")
        if array.ndim != 1 or not len(array) or not (np.isfinite(array) & (array >= 0)).all():
            raise ValueError(f"thresholds must be finite and at least 0, not {array.tolist()}")
        values = tuple(map(float, array))
        self.thresholds, self.certainty = values, certainty

    def __call__(self, state: State) -> Tensor:
        thresholds = torch.tensor(self.thresholds, device=state.number.device)
        return certainty_of(self.certainty, state) >= thresholds[state.number]
