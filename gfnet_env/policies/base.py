"""The policy protocol: who decides where to look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.looks import Look
from gfnet_env.models.base import Model, State
from gfnet_env.observations import MapsObservation, Observation
from gfnet_env.registry import Registry

# What a policy remembers of B pictures: a tree of tensors with B rows (see ``rows``), or None.
Memory = Any


class Policy(Protocol):
    """Anything that maps observations to looks; a ``torch.nn.Module`` will do.

    One that has an attribute ``observation`` (see ``Observation``) is shown that; others are shown
    ``MapsObservation``. One that has an attribute ``actions`` (see ``Actions``) returns such.
    """

    def __call__(
        self, observation: Mapping[str, Tensor], memory: Memory
    ) -> tuple[Look | Tensor, Memory]:
        """Decide where to look next in every picture.

        Args:
            observation: B rows.
            memory: What the policy itself returned at the step before, less the rows of pictures
                that have left the batch; None at the glance and where there is none.

        Returns:
            Looks, or locations (B, 2) in [-1, 1] for looks at full resolution, or actions; and the
            memory to be given back at the next step.
        """
        ...


POLICIES: Registry[Policy] = Registry("policy")


@dataclass(frozen=True)
class Context:
    """What there is to know about B pictures, most of it hidden from an agent.

    Attributes:
        features: Serves what the model sees of them; with ``model`` and ``images``.
        indices: Which images of the set they are, (B,).
        labels: (B,) int64, or None where unknown.
        boxes: Where the objects are, (B, 4) as (top, left, bottom, right) in pixels, or None.
    """

    features: Any
    indices: npt.NDArray[np.int64]
    labels: Tensor | None = None
    boxes: Tensor | None = None

    @property
    def model(self) -> Model:
        """The model that looks at them."""
        return self.features.model


@runtime_checkable
class Starts(Protocol):
    """A policy whose memory at the glance is made from more than an observation shows."""

    def start(self, context: Context) -> Memory:
        """The memory to begin with."""
        ...


def start(policy: Policy, context: Context) -> Memory:
    """The memory a policy begins with: from the context where it asks for one, else None."""
    return policy.start(context) if isinstance(policy, Starts) else None


def decide(policy: Policy, model: Model, state: State, memory: Memory) -> tuple[Look, Memory]:
    """Show a policy what it is to see, and take the looks that it decides on.

    No gradient goes through the decision, and it is made in full precision, as it was learned,
    whatever the model works in.

    Raises:
        ValueError: The looks have another shape, type or range.
    """
    with torch.no_grad(), torch.autocast(state.number.device.type, enabled=False):
        decided, memory = policy(shown_to(policy, model)(state), memory)
        looks = as_looks(policy, decided, state)
    looks.check(len(state))
    return looks, memory


def shown_to(policy: Policy, model: Model) -> Observation:
    """The observation of a policy."""
    own: Observation | None = getattr(policy, "observation", None)
    return own or MapsObservation(model.focus_steps)


def as_looks(policy: Policy, decided: Look | Tensor, state: State) -> Look:
    """What a policy returned, as looks."""
    actions = getattr(policy, "actions", None)
    if isinstance(decided, Look):
        return decided
    return Look.at(decided) if actions is None else actions.looks(decided, state)
