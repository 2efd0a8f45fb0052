"""Classifiers: from the feature vectors seen so far to a prediction."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

# Enough to carry what a few views say; at the 1,280 features of a mobile network a larger memory
# would cost as much as the encoder.
_MAX_RECURRENT_MEMORY = 512


class Classifier(nn.Module, ABC):
    """Combines the views of an image, one after the other.

    Attributes:
        memory_size: Numbers it remembers per image, M.
    """

    memory_size: int

    @abstractmethod
    def forward(self, vector: Tensor, memory: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one more view.

        Args:
            vector: Feature vector of the view, (B, V).
            memory: What is remembered of the views before it, (B, M); zeros at the glance.
            number: Number of the step, (B,) int64, 0 at the glance.

        Returns:
            The new memory (B, M) and the logits (B, K).
        """

    def empty_memory(self, vector: Tensor) -> Tensor:
        """The memory before the glance, (B, M), in the type and place of ``vector``."""
        return vector.new_zeros(len(vector), self.memory_size)


class RecurrentClassifier(Classifier):
    """A gated recurrent unit over the views, then a linear layer (GFNet, section 3.2)."""

    def __init__(self, vector_size: int, num_classes: int, focus_steps: int) -> None:
        super().__init__()
        self.memory_size = min(vector_size, _MAX_RECURRENT_MEMORY)
        self.cell = nn.GRUCell(vector_size, self.memory_size)
        self.linear = nn.Linear(self.memory_size, num_classes)

    def forward(self, vector: Tensor, memory: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.cell(vector, memory)
        return memory, self.linear(memory)


CLASSIFIERS: dict[str, Callable[[int, int, int], Classifier]] = {
    "recurrent": RecurrentClassifier,
}


def build_classifier(name: str, vector_size: int, num_classes: int, focus_steps: int) -> Classifier:
    """Build a classifier by name.

    Raises:
        ValueError: There is no classifier of that name.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier {name!r}; known: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name](vector_size, num_classes, focus_steps)
