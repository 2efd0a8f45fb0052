"""The policy protocol: a policy decides where to look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env import rows
from gfnet_env.actions import looks_of
from gfnet_env.contracts import described, name_of
from gfnet_env.looks import Look
from gfnet_env.models.base import Model, State
from gfnet_env.observations import MapsObservation, Observation
from gfnet_env.registry import Registry

# The memory of a policy: a tree of tensors with one row per picture (see ``rows``), or None.
Memory = Any


class Policy(Protocol):
    """Anything that maps observations to looks, for example a ``torch.nn.Module``.

    It sees the observation in its attribute ``observation`` (see ``Observation``), by default a
    ``MapsObservation``. If it has an attribute ``actions`` (see ``Actions``), it returns such
    actions.
    """

    def __call__(
        self, observation: Mapping[str, Tensor], memory: Memory
    ) -> tuple[Look | Tensor, Memory]:
        """Decide where to look next in every picture.

        Args:
            observation: The observation, with B rows.
            memory: The memory returned in the step before, without the rows of pictures that have
                left the batch; see ``start`` for the memory at the glance.

        Returns:
            Looks, locations (B, 2) in [-1, 1] for looks at full resolution, or actions; and the
            memory for the next step.
        """
        ...


POLICIES: Registry[Policy] = Registry("policy")


def check_policy(policy: Any) -> None:
    """Raise ``TypeError`` unless an object may be a policy."""
    if not callable(policy) or isinstance(policy, type):
        raise TypeError(
            f"a policy must be an object to call with an observation and a memory, not "
            f"{policy!r}; POLICIES.build('center') makes one by its name"
        )


@dataclass(frozen=True)
class Context:
    """Everything known about B pictures, most of it hidden from an agent.

    Attributes:
        features: Their ``FeatureSource``, with ``model`` and ``images``.
        indices: Indices in the image set, (B,).
        labels: True classes, (B,) int64, or None if unknown.
        boxes: Boxes of the objects, (B, 4) as (top, left, bottom, right) in pixels, or None.
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
    """The memory of a policy at the glance; None unless the policy is a ``Starts``."""
    return policy.start(context) if isinstance(policy, Starts) else None


def decide(policy: Policy, model: Model, state: State, memory: Memory) -> tuple[Look, Memory]:
    """The looks that a policy decides on, without gradients and in full precision, as in training.

    Raises:
        TypeError: The memory holds anything but tensors.
        ValueError: The looks have another shape, type or range, or the memory has other rows.
    """
    with torch.no_grad(), torch.autocast(state.number.device.type, enabled=False):
        result = policy(shown_to(policy, model)(state), memory)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(
                f"the policy {name_of(policy)} must return two things, where to look and "
                f"what it remembers (or None), not a {type(result).__name__}"
            )
        decided, memory = result
        looks = as_looks(policy, decided, state)
    looks.check(len(state))
    for tensor in rows.tensors(memory):
        if tensor.shape[:1] != (len(state),):
            raise ValueError(
                f"what the policy {name_of(policy)} remembers must have a row for each of "
                f"{len(state)} pictures, not the shape {tuple(tensor.shape)}; wrap what all "
                "pictures share in gfnet_env.rows.Shared"
            )
    return looks, memory


def shown_to(policy: Policy, model: Model) -> Observation:
    """The observation that a policy sees."""
    own: Observation | None = getattr(policy, "observation", None)
    if own is not None and not callable(own):
        raise TypeError(
            f"the observation of the policy {name_of(policy)} must be a function of a state, not "
            f"{own!r}; OBSERVATIONS.build makes one by its name"
        )
    return own or MapsObservation(model.focus_steps)


def as_looks(policy: Policy, decided: Look | Tensor, state: State) -> Look:
    """Convert the result of a policy (looks, locations or actions) to looks.

    Locations beyond [-1, 1] are clipped, as an environment does.
    """
    actions = getattr(policy, "actions", None)
    if actions is not None and not hasattr(actions, "looks"):
        raise TypeError(
            f"the actions of the policy {name_of(policy)} must be Actions, not {actions!r}; "
            "build_actions makes some by their name"
        )
    if not isinstance(decided, Look):
        if not isinstance(decided, Tensor):
            raise ValueError(
                f"the policy {name_of(policy)} must return looks or a tensor, not a "
                f"{described(decided)}"
            )
        decided = Look.at(decided) if actions is None else looks_of(actions, decided, state)
    return decided.clipped()
