"""A learned stop: looking ends where the expected gain of looking on is below its price."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.models.base import State
from gfnet_env.settings import AtLeast, AtMost, checked

# Probabilities of the likeliest classes that are told in order.
_LIKELIEST = 3
_EPOCHS = 500
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-2
_TINY = 1e-6


class ExpectedGain(nn.Module):
    """Predicts what looking on gains, from what is known.

    The gain of k more looks is what they add to the probability of the true class, per look. It is
    predicted for every k, and the best counts: two looks may pay where one alone does not.

    As a signal for ``ThresholdExit``, it is the certainty that looking on does not pay: one minus
    the gain. The threshold 1 − c exits where the gain is at most c, the price of a look.

    Args:
        num_classes: K.
        focus_steps: N.
        sees_heat: Whether states have a where-map, whose highest value is known then.
        width: Units of the hidden layer.
    """

    mean: Tensor
    deviation: Tensor
    seen: Tensor

    def __init__(
        self, num_classes: int, focus_steps: int, sees_heat: bool = False, width: int = 32
    ) -> None:
        super().__init__()
        most = {"num_classes": 1_000_000, "focus_steps": 1000, "width": 10_000}
        sizes = {"num_classes": num_classes, "focus_steps": focus_steps, "width": width}
        for name, size in sizes.items():
            checked(name, size, Annotated[int, AtLeast(1), AtMost(most[name])])
        checked("sees_heat", sees_heat, bool)
        self.config = {
            "num_classes": num_classes,
            "focus_steps": focus_steps,
            "sees_heat": sees_heat,
            "width": width,
        }
        self.focus_steps, self.sees_heat = focus_steps, sees_heat
        count = num_classes + min(_LIKELIEST, num_classes) + focus_steps + 2 + sees_heat
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))
        # Whether pictures with t looks were seen to take k more: [t, k - 1].
        self.register_buffer("seen", torch.zeros(focus_steps + 1, focus_steps, dtype=torch.bool))
        self.layers = nn.Sequential(
            nn.Linear(count, width), nn.GELU(), nn.Linear(width, focus_steps)
        )

    def known(self, state: State) -> Tensor:
        """What the prediction is made from, (B, D)."""
        probabilities = state.probabilities
        likeliest = probabilities.topk(min(_LIKELIEST, probabilities.shape[1]), dim=1).values
        logs = (probabilities + _TINY).log()
        entropy = -(probabilities * logs).sum(dim=1, keepdim=True)
        steps = functional.one_hot(state.number, self.focus_steps + 1).float()
        parts = [probabilities, (likeliest + _TINY).log(), entropy, steps]
        if self.sees_heat:
            heat: Tensor = state.heat  # type: ignore[attr-defined]
            parts.append(heat.amax(dim=(1, 2, 3)).sigmoid()[:, None])
        return torch.cat(parts, dim=1)

    def gains(self, known: Tensor) -> Tensor:
        """The gain per look of k = 1 … N more looks, (B, N), from ``known``."""
        gains: Tensor = self.layers((known - self.mean) / self.deviation)
        return gains

    def forward(self, state: State) -> Tensor:
        """One minus the gain of looking on, (B,) in [0, 1]; 1 after the last look."""
        gains = self.gains(self.known(state)).masked_fill(~self.seen[state.number], 0)
        return 1 - gains.amax(dim=1).clamp(0, 1)


def fit_gain(
    gain: ExpectedGain,
    known: npt.NDArray[np.float32],
    label_confidence: npt.NDArray[np.float32],
    looks: npt.NDArray[np.int64],
) -> None:
    """Regress the expected gain on what looks really gained, in place.

    Args:
        gain: What is fitted; the same weights and data give the same result.
        known: What was known of N pictures after each of T steps, (N, T, D), see ``known``.
        label_confidence: Probability of the true class, (N, T).
        looks: Looks taken before a policy stopped, (N,).
    """
    inputs, sure, taken = (
        torch.from_numpy(each).to(gain.mean.device) for each in (known, label_confidence, looks)
    )
    steps = torch.arange(sure.shape[1], device=sure.device)
    # (T, k): the step that k = 1 … N more looks lead to.
    later = steps[:, None] + steps[1:]
    reached = later <= taken[:, None, None]
    gained = sure[:, later.clamp(max=len(steps) - 1)] - sure[:, :, None]
    targets = (gained / (later - steps[:, None]))[reached]
    gain.seen.copy_(reached.any(dim=0))
    looked_on = reached.any(dim=2)
    if not bool(looked_on.any()):
        raise ValueError("no picture was looked at, so there is nothing to learn a gain from")
    inputs, reached = inputs[looked_on], reached[looked_on]
    gain.mean.copy_(inputs.mean(dim=0))
    gain.deviation.copy_(inputs.std(dim=0, correction=0).clamp(min=_TINY))
    spread = targets.std(correction=0).clamp(min=_TINY)
    optimiser = torch.optim.AdamW(gain.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _EPOCHS)
    for _ in range(_EPOCHS):
        loss = ((gain.gains(inputs)[reached] - targets) / spread).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
