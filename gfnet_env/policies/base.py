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

# The memory of a policy: a tree of tensors with a row for each picture (see ``rows``), or None.
Memory = Any


class Policy(Protocol):
    """Anything that maps observations to looks, for example a ``torch.nn.Module``.

    It is shown its attribute ``observation`` (see ``Observation``), by default a
    ``MapsObservation``. If it has an attribute ``actions`` (see ``Actions``), it returns those.
    """

    def __call__(
        self, observation: Mapping[str, Tensor], memory: Memory
    ) -> tuple[Look | Tensor, Memory]:
        """Decide where to look next in every picture.

        Args:
            observation: B rows.
            memory: Returned at the step before, less the rows of pictures that have left the batch;
                at the glance, see ``start``.

        Returns:
            Looks, or locations (B, 2) in [-1, 1] for looks at full resolution, or actions; and the
            memory for the next step.
        """
        ...


POLICIES: Registry[Policy] = Registry("policy")


@dataclass(frozen=True)
class Context:
    """All there is to know about B pictures, most of it hidden from an agent.

    Attributes:
        features: Their ``FeatureSource``, with ``model`` and ``images``.
        indices: In the image set, (B,).
        labels: (B,) int64, or None if unknown.
        boxes: Of the objects, (B, 4) as (top, left, bottom, right) in pixels, or None.
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
    """A policy whose first memory holds more than an observation shows."""

    def start(self, context: Context) -> Memory:
        """The memory at the glance."""
        ...


def start(policy: Policy, context: Context) -> Memory:
    """The memory of a policy at the glance; None unless it is one that ``Starts``."""
    return policy.start(context) if isinstance(policy, Starts) else None


def decide(policy: Policy, model: Model, state: State, memory: Memory) -> tuple[Look, Memory]:
    """The looks that a policy decides on, without gradients and in full precision, as learned.

    Raises:
        ValueError: The looks have another shape, type or range.
    """
    with torch.no_grad(), torch.autocast(state.number.device.type, enabled=False):
        decided, memory = policy(shown_to(policy, model)(state), memory)
        looks = as_looks(policy, decided, state)
    looks.check(len(state))
    return looks, memory


def shown_to(policy: Policy, model: Model) -> Observation:
    """The observation that a policy is shown."""
    own: Observation | None = getattr(policy, "observation", None)
    return own or MapsObservation(model.focus_steps)


def as_looks(policy: Policy, decided: Look | Tensor, state: State) -> Look:
    """The looks that a policy returned, or whose actions it returned."""
    actions = getattr(policy, "actions", None)
    if isinstance(decided, Look):
        return decided
    return Look.at(decided) if actions is None else actions.looks(decided, state)
