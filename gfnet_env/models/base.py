"""The model protocol: a model takes views and returns a state with logits after each look."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from gfnet_env.looks import Look, ViewConfig
from gfnet_env.models.trained_on import TrainingData

# Features of B views: a tree of tensors with B rows, see ``rows``.
Features = Any


class Beliefs:
    """Class probabilities of B pictures, from logits."""

    logits: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (B, K) float32."""
        return self.logits.float().softmax(dim=1)

    @property
    def classes(self) -> Tensor:
        """The most confident class, (B,) int64."""
        return self.logits.argmax(dim=1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the most confident class, (B,)."""
        return self.probabilities.amax(dim=1)


@dataclass(frozen=True, kw_only=True)
class State(Beliefs):
    """What a model knows about B pictures after a glance or a look. Models may add fields.

    Attributes:
        logits: (B, K).
        number: Looks taken so far, (B,) int64; they may differ within a batch.
        location: Location of the last look, (B, 2) in [-1, 1]; zeros at the glance.
        scale: Scale of the last look, (B,), see ``Look``; ones at the glance.
        size: (H, W) of each picture, (B, 2) int64.
    """

    logits: Tensor
    number: Tensor
    location: Tensor
    scale: Tensor
    size: Tensor

    @cached_property
    def probabilities(self) -> Tensor:
        # Cached: the logits of a state never change, unlike those of other beliefs.
        return super().probabilities

    def label_confidence(self, labels: Tensor) -> Tensor:
        """Probability of the true class, (B,)."""
        return self.probabilities.gather(1, labels[:, None]).squeeze(1)


class Model(Protocol):
    """Classifies a picture from an overview of it, and then from windows of it.

    Attributes:
        view: How its views are made; ``view.size`` is P. If its overviews are made in another way,
            an attribute ``glance_view`` says how.
        num_classes: K.
        focus_steps: N, maximum number of looks after the glance.
        class_names: One name per class, or None.
        trained_on: What its weights were trained on.
        training: Whether it is in training mode.
        device: Where its weights are.
    """

    num_classes: int
    focus_steps: int
    training: bool

    @property
    def view(self) -> ViewConfig: ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def trained_on(self) -> TrainingData: ...

    @property
    def device(self) -> torch.device: ...

    def encode_overview(self, views: Tensor, normalised: bool = False) -> Features:
        """Features of overviews, (B, 3, P, P): uint8, floats in 0..255, or normalised floats."""
        ...

    def encode_window(self, views: Tensor, normalised: bool = False) -> Features:
        """Features of windows; views as for ``encode_overview``."""
        ...

    def begin(self, features: Features, sizes: Tensor) -> State:
        """The state after a glance, from features of overviews.

        Args:
            features: Features from ``encode_overview``.
            sizes: (H, W) of the pictures, (B, 2) int64.
        """
        ...

    def look(self, features: Features, looks: Look, state: State) -> State:
        """The state after one more look.

        Args:
            features: Features from ``encode_window``.
            looks: Where the windows are; none of them stops.
            state: The state before.
        """
        ...

    def multiply_adds(self) -> list[int]:
        """Multiply-adds for one picture of the glance and of each of the N looks, 1 + N numbers."""
        ...

    def eval(self) -> Any:
        """Switch to evaluation mode."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move to a device."""
        ...


def check_model(model: Any) -> None:
    """Raise ``TypeError`` unless an object may be a model."""
    if not hasattr(model, "focus_steps") or isinstance(model, type):
        raise TypeError(
            f"a model is needed, not {model!r}; GlanceFocusNetwork.load(FOLDER) reads one"
        )


def check_views(views: Tensor, view: ViewConfig) -> None:
    """Raise ``ValueError`` unless views are (B, 3, P, P)."""
    if views.shape[1:] != (3, view.size, view.size):
        raise ValueError(
            f"views must be (B, 3, {view.size}, {view.size}), not {tuple(views.shape)}; take them "
            "with overview() or window() of an image set and the network's view"
        )


def glance_view(model: Model) -> ViewConfig:
    """How a model's overviews are made."""
    view: ViewConfig = getattr(model, "glance_view", model.view)
    return view


def blank_views(model: Model, view: ViewConfig, count: int = 1) -> Tensor:
    """Black views, (count, 3, P, P) uint8, to find shapes and costs with."""
    shape = (count, 3, view.size, view.size)
    return torch.zeros(shape, dtype=torch.uint8, device=model.device)


@torch.no_grad()
def blank_state(model: Model, count: int = 1) -> State:
    """The state after a glance at black pictures of P×P, by a model in evaluation mode."""
    sizes = torch.full((count, 2), model.view.size, device=model.device)
    return model.begin(model.encode_overview(blank_views(model, glance_view(model), count)), sizes)
