"""Run a policy over a whole image set, step by step, without exits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data import Batch, ImageSet, batches
from gfnet_env.env.observation import observe
from gfnet_env.perception import GlanceFocusNetwork, StaticNetwork, Step
from gfnet_env.policies.base import Policy, Scene, State, initial_state


def advance(
    network: GlanceFocusNetwork,
    policy: Policy,
    images: Tensor,
    step: Step,
    state: State,
    rows: Tensor | None = None,
    normalised: bool = False,
) -> tuple[Step, State]:
    """One focus step: observe, let the policy pick, look.

    No gradient goes through what the policy picks, and it picks in full precision, as it was
    learned, whatever the network works in.

    Args:
        network: What sees.
        policy: Who picks the patch.
        images: (B, 3, H, W) uint8.
        step: What is known so far, R rows.
        state: The policy's, R rows.
        rows: Rows of ``images`` that these are, (R,), or None for all.
        normalised: Whether ``images`` are normalised floats instead.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        locations, state = policy(observe(step, network.focus_steps), state)
    return network.focus(images, locations, step, rows, normalised), state


def unroll(
    network: GlanceFocusNetwork,
    policy: Policy,
    images: Tensor,
    state: State = None,
    normalised: bool = False,
) -> Iterator[Step]:
    """The glance and then every focus step of a batch, T steps in all."""
    step = network.glance(images, normalised)
    yield step
    for _ in range(network.focus_steps):
        step, state = advance(network, policy, images, step, state, normalised=normalised)
        yield step


def scene_of(network: GlanceFocusNetwork, batch: Batch) -> Scene:
    """What there is to know about a batch of an image set."""
    return Scene(network, batch.pixels, batch.indices, batch.labels, batch.boxes)


@dataclass(frozen=True)
class Record:
    """What came out of every step of N images, T steps each.

    Attributes:
        indices: Which images, (N,).
        correct: Whether the most confident class was the true one, (N, T) bool.
        confidence: Probability of the most confident class, (N, T) float32.
        label_confidence: Probability of the true class, (N, T) float32.
        locations: Where it looked, (N, T - 1, 2) float32.
    """

    indices: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float32]
    label_confidence: npt.NDArray[np.float32]
    locations: npt.NDArray[np.float32]

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """Share of correct images after each step, (T,)."""
        return self.correct.mean(axis=0)

    def correct_at(self, exits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each image is correct at its exit, (N,), for exits (N,) in [0, T - 1]."""
        return self.correct[np.arange(len(exits)), exits]

    def confidence_at(self, exits: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The confidence of each image at its exit, (N,), for exits (N,) in [0, T - 1]."""
        return self.confidence[np.arange(len(exits)), exits]


@torch.no_grad()
def evaluate_policy(
    network: GlanceFocusNetwork,
    policy: Policy,
    images: ImageSet,
    *,
    indices: npt.NDArray[np.int64] | None = None,
    batch_size: int = 256,
) -> Record:
    """Take all T steps of every image under a policy.

    Args:
        network: In evaluation mode.
        policy: Who picks the patches; one that needs the scene is told it.
        images: The set.
        indices: Which of its images, or None for all.
        batch_size: Images per batch.
    """
    columns: list[list[npt.NDArray[np.generic]]] = [[], [], [], []]
    seen = np.arange(len(images)) if indices is None else indices
    for batch in batches(images, batch_size, seen, network.device):
        state = initial_state(policy, scene_of(network, batch))
        steps = list(unroll(network, policy, batch.pixels, state))
        per_step = (
            [step.classes == batch.labels for step in steps],
            [step.confidence for step in steps],
            [step.label_confidence(batch.labels) for step in steps],
            [step.location for step in steps[1:]],
        )
        for column, values in zip(columns, per_step, strict=True):
            column.append(torch.stack(values, dim=1).cpu().numpy())
    return Record(seen, *(np.concatenate(column) for column in columns))


@torch.no_grad()
def evaluate_static(
    network: StaticNetwork,
    images: ImageSet,
    *,
    indices: npt.NDArray[np.int64] | None = None,
    batch_size: int = 256,
) -> npt.NDArray[np.bool_]:
    """Whether a static network, in evaluation mode, is right about each image of a set, (N,).

    Args:
        network: In evaluation mode.
        images: The set.
        indices: Which of its images, or None for all.
        batch_size: Images per batch.
    """
    parts = [
        network(batch.pixels).argmax(dim=1) == batch.labels
        for batch in batches(images, batch_size, indices, network.device)
    ]
    return torch.cat(parts).cpu().numpy()
