"""The type of exit rules, which say when to stop looking at a picture."""

from collections.abc import Callable

import torch
from torch import Tensor

from gfnet_env.contracts import name_of, one_per_image
from gfnet_env.models.base import State
from gfnet_env.registry import Registry

_ROUNDING = 1e-4

# Maps the state of B pictures to whether each exits now, (B,) bool. Pictures also exit after the
# last look, and when the policy stops.
ExitRule = Callable[[State], Tensor]

# Maps the state of B pictures to something about each, (B, ...) float32.
Signal = Callable[[State], Tensor]


def confidence(state: State) -> Tensor:
    """Probability of the most confident class, (B,)."""
    return state.confidence


def exit_now(rule: ExitRule, state: State) -> Tensor:
    """Whether each picture exits by a rule, (B,) bool.

    Raises:
        ValueError: The rule returns anything else.
    """
    return one_per_image(rule(state), len(state), f"the exit rule {name_of(rule)}", torch.bool)


def certainty_of(signal: Signal, state: State) -> Tensor:
    """How sure each picture's state is by a signal, (B,) float32 in [0, 1].

    Raises:
        ValueError: The signal returns anything else.
    """
    if signal is confidence:
        return state.confidence
    who = f"the certainty {name_of(signal)}"
    values = one_per_image(signal(state), len(state), who).float()
    # Sums of probabilities may round to a bit more than one.
    inside = (values >= 0) & (values <= 1 + _ROUNDING)
    if not bool(inside.all()):
        raise ValueError(f"{who} must be in [0, 1]; one is {values[~inside][0].item()}")
    return values


EXITS: Registry[ExitRule] = Registry("exit rule", functions_are_parts=True)
