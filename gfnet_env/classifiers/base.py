"""The base class of classifiers, which combine the feature vectors of the views seen so far."""

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from torch import Tensor, nn

from gfnet_env.contracts import described
from gfnet_env.registry import UNFIT, Registry
from gfnet_env.settings import MOST_CLASSES, AtLeast, AtMost, checked

# Row and column in [-1, 1], and the logarithm of the scale.
PLACE_SIZE = 3


class Classifier(nn.Module, ABC):
    """Combines the views of a picture, one after the other.

    Attributes:
        sees_places: Whether its vectors end in the ``place`` of their view.
        over_sets: Whether it takes any number of views in any order. Then it also learns to
            classify each view alone, in place of the encoders' own heads.
        memory_size: M, numbers that it remembers of each picture.
        judges_glance: Whether it computes logits after the glance; if not, the global encoder's own
            head does.
    """

    memory_size: int
    judges_glance = True
    sees_places = False
    over_sets = False

    @abstractmethod
    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        """The memory (B, M) after one more view.

        Args:
            vector: Feature vector of the view, (B, V), or (B, V + PLACE_SIZE) if it sees places.
            memory: Memory of the views before it, (B, M); zeros at the glance.
            number: Looks taken so far, (B,) int64; 0 at the glance.
        """

    @abstractmethod
    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        """Logits (B, K) from the memory (B, M) after ``number`` looks (B,)."""

    def forward(self, vector: Tensor, memory: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """``remember``, then ``judge``: the new memory (B, M) and the logits (B, K)."""
        memory = self.remember(vector, memory, number)
        return memory, self.judge(memory, number)

    def judge_alone(self, vector: Tensor) -> Tensor:
        """Logits (B, K) of one view, as if there were no others."""
        number = torch.ones(vector.shape[0], dtype=torch.int64, device=vector.device)
        return self(vector, self.empty_memory(vector), number)[1]

    def empty_memory(self, vector: Tensor) -> Tensor:
        """The memory before the glance, (B, M), with the type and device of ``vector``."""
        return vector.new_zeros(vector.shape[0], self.memory_size)


def check_sizes(**sizes: int) -> None:
    """Raise ``ValueError`` unless sizes of a classifier are positive and no mistake."""
    for name, size in sizes.items():
        checked(name, size, Annotated[int, AtLeast(1), AtMost(MOST_CLASSES)])


def place(location: Tensor, scale: Tensor) -> Tensor:
    """The places of views, (B, PLACE_SIZE), from locations (B, 2) and scales (B,) of their looks.

    The place of a glance is all zeros.
    """
    return torch.cat([location, scale.log()[:, None]], dim=1).float()


CLASSIFIERS: Registry[Classifier] = Registry(
    "classifier", context=("vector_size", "num_classes", "focus_steps", "memory_size")
)


def build_classifier(
    spec: str,
    vector_size: int,
    num_classes: int,
    focus_steps: int,
    memory_size: int | None = None,
    *,
    trusted: bool = True,
) -> Classifier:
    """Build a classifier; it gets only the arguments that it has parameters for.

    Args:
        spec: A name in ``CLASSIFIERS`` with its parameters, or ``module:NAME`` of your own.
        vector_size: V, length of a view's feature vector.
        num_classes: K.
        focus_steps: N.
        memory_size: M; None for the classifier's own choice.
        trusted: See ``Registry.build``.

    Raises:
        ValueError: There is no such classifier, it cannot have such a memory, or it remembers or
            judges something else.
    """
    classifier = CLASSIFIERS.build(
        spec,
        trusted=trusted,
        vector_size=vector_size,
        num_classes=num_classes,
        focus_steps=focus_steps,
        memory_size=memory_size,
    )
    if not isinstance(classifier, Classifier):
        raise ValueError(f"{spec!r} makes a {type(classifier).__name__}; make a Classifier")
    _check(classifier, vector_size, num_classes, spec)
    return classifier


@torch.no_grad()
def _check(classifier: Classifier, vector_size: int, num_classes: int, spec: str) -> None:
    """Raise ``ValueError`` unless a classifier remembers and judges as it should."""
    if not isinstance(getattr(classifier, "memory_size", None), int):
        raise ValueError(f"the classifier {spec!r} has no memory_size; set it in its __init__")
    seen = vector_size + PLACE_SIZE * classifier.sees_places
    vector, number = torch.zeros(2, seen), torch.zeros(2, dtype=torch.int64)
    classifier.eval()
    try:
        memory = classifier.remember(vector, classifier.empty_memory(vector), number)
        _check_rows(memory, classifier.memory_size, "remember", spec)
        memory, logits = classifier(vector, memory, number + 1)
        _check_rows(memory, classifier.memory_size, "remember", spec)
        _check_rows(logits, num_classes, "judge", spec)
    except UNFIT as error:
        raise ValueError(
            f"the classifier {spec!r} does not take vectors of {seen} numbers: {error}"
        ) from error
    finally:
        classifier.train()


def _check_rows(value: object, size: int, method: str, spec: str) -> None:
    fits = isinstance(value, Tensor) and value.shape == (2, size) and value.is_floating_point()
    if not fits:
        raise ValueError(
            f"{method} of the classifier {spec!r} must return (2, {size}) floats for two images, "
            f"not {described(value)}"
        )
