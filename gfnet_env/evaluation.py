"""Evaluate a policy on a whole image set, step by step, without exits."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.exits import Signal, confidence
from gfnet_env.features.live import LiveFeatures
from gfnet_env.images import ImageSet, as_image_set, batches
from gfnet_env.images.base import Indices
from gfnet_env.matching import check_fit
from gfnet_env.models.base import Model, check_model
from gfnet_env.models.static import StaticNetwork
from gfnet_env.policies.base import Context, Policy, check_policy
from gfnet_env.rollout import rollout


@dataclass(frozen=True)
class Record:
    """The results of every step of N images, T steps each.

    After a policy has stopped, later steps repeat the last one.

    Attributes:
        indices: Indices of the images, (N,).
        correct: Whether the most confident class was the true one, (N, T) bool.
        confidence: Probability of the most confident class, (N, T) float32.
        label_confidence: Probability of the true class, (N, T) float32.
        locations: Locations of the looks, (N, T - 1, 2) float32; NaN if not taken.
        scales: Scales of the looks, (N, T - 1) float32; NaN if not taken.
        looks: Number of looks, (N,) int64.
        signal: What was asked of every state, (N, T, ...) float32; by default ``confidence``.
        windows: Mean number of windows encoded per image: its looks, and windows that a policy
            tries before it decides.
        probabilities: Probability of every class after the last step, (N, K) float32, if asked for.
    """

    indices: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float32]
    label_confidence: npt.NDArray[np.float32]
    locations: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    looks: npt.NDArray[np.int64]
    signal: npt.NDArray[np.float32]
    windows: float = 0.0
    probabilities: npt.NDArray[np.float32] | None = None

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
    model: Model,
    policy: Policy,
    images: ImageSet,
    *,
    indices: Indices | None = None,
    batch_size: int = 256,
    signal: Signal = confidence,
    keep_probabilities: bool = False,
    features: LiveFeatures | None = None,
) -> Record:
    """Take all looks at every image under a policy.

    Args:
        model: In evaluation mode.
        policy: Decides where to look.
        images: The set.
        indices: Which of its images; None for all.
        batch_size: Images per batch.
        signal: What to ask of every state, for ``Record.signal``.
        keep_probabilities: Whether ``Record.probabilities`` is wanted.
        features: Features of the model and the images, by default new ones. Several calls can share
            some that keep glances.

    Raises:
        TypeError: The model or the policy is none.
        ValueError: The model does not know the classes of the images, they are too small, or none
            are chosen.
    """
    check_model(model)
    check_policy(policy)
    images = as_image_set(images)
    check_fit(model, images)
    seen = images.numbers(slice(None) if indices is None else indices)
    if len(seen) == 0:
        raise ValueError("no images are chosen; give indices of at least one")
    features = LiveFeatures(model, images) if features is None else features
    before = features.windows
    parts = []
    for batch in batches(images, batch_size, seen, model.device):
        context = Context(features, batch.indices, batch.labels, batch.boxes)
        parts.append(_record(features, policy, context, batch.labels, signal, keep_probabilities))
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    probabilities = columns.pop() if keep_probabilities else None
    windows = (features.windows - before) / len(seen)
    return replace(Record(seen, *columns), windows=windows, probabilities=probabilities)


def _record(
    features: LiveFeatures,
    policy: Policy,
    context: Context,
    labels: Tensor,
    signal: Signal,
    keep_probabilities: bool,
) -> list[npt.NDArray[np.generic]]:
    """The columns of a ``Record`` for one batch, without its indices; probabilities come last."""
    count, looks = len(labels), features.model.focus_steps
    correct = labels.new_zeros(count, 1 + looks, dtype=torch.bool)
    probability = torch.zeros(count, 1 + looks, dtype=torch.float32, device=labels.device)
    label_confidence = torch.zeros_like(probability)
    locations = probability.new_full((count, looks, 2), torch.nan)
    scales = probability.new_full((count, looks), torch.nan)
    taken = torch.zeros_like(labels)
    classes = features.model.num_classes if keep_probabilities else 0
    probabilities = probability.new_zeros(count, classes)
    signals: Tensor | None = None
    for number, step in enumerate(rollout(features, policy, context)):
        rows, state = step.rows, step.state
        # Later steps overwrite this, unless the policy stops.
        correct[rows, number:] = (state.classes == labels[rows])[:, None]
        probability[rows, number:] = state.confidence[:, None]
        label_confidence[rows, number:] = state.label_confidence(labels[rows])[:, None]
        if keep_probabilities:
            probabilities[rows] = state.probabilities
        asked = signal(state).float()
        if signals is None:
            signals = asked.new_zeros(count, 1 + looks, *asked.shape[1:])
        signals[rows, number:] = asked[:, None]
        if number > 0:
            locations[rows, number - 1] = state.location
            scales[rows, number - 1] = state.scale
            taken[rows] = number
    assert signals is not None
    columns = [correct, probability, label_confidence, locations, scales, taken, signals]
    if keep_probabilities:
        columns.append(probabilities)
    return [column.cpu().numpy() for column in columns]


@torch.no_grad()
def evaluate_static(
    network: StaticNetwork,
    images: ImageSet,
    *,
    indices: npt.NDArray[np.int64] | None = None,
    batch_size: int = 256,
) -> npt.NDArray[np.bool_]:
    """Whether a static network is right about each image, (N,); arguments as above."""
    parts = [
        network(images.overview(batch.indices, network.view).to(network.device)).argmax(dim=1)
        == batch.labels
        for batch in batches(images, batch_size, indices, network.device)
    ]
    return torch.cat(parts).cpu().numpy()
