"""Classifiers: from the feature vectors seen so far to a prediction."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Enough to carry what a few views say; at the 1,280 features of a mobile network a larger memory
# would cost as much as the encoder.
_MAX_RECURRENT_MEMORY = 512


class Classifier(nn.Module, ABC):
    """Combines the views of an image, one after the other.

    Attributes:
        memory_size: Numbers it remembers per image, M.
        judges_glance: Whether it makes logits of the glance alone; where not, the global encoder's
            own head does.
    """

    memory_size: int
    judges_glance = True

    @abstractmethod
    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        """Take in one more view.

        Args:
            vector: Feature vector of the view, (B, V).
            memory: What is remembered of the views before it, (B, M); zeros at the glance.
            number: Number of the step, (B,) int64, 0 at the glance.

        Returns:
            The new memory, (B, M).
        """

    @abstractmethod
    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        """Logits (B, K) of what is remembered (B, M) after the steps of these numbers (B,)."""

    def forward(self, vector: Tensor, memory: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """The new memory (B, M) and the logits (B, K); see ``remember`` for the arguments."""
        memory = self.remember(vector, memory, number)
        return memory, self.judge(memory, number)

    def empty_memory(self, vector: Tensor) -> Tensor:
        """The memory before the glance, (B, M), in the type and place of ``vector``."""
        return vector.new_zeros(vector.shape[0], self.memory_size)


class RecurrentClassifier(Classifier):
    """A gated recurrent unit over the views, then a linear layer (GFNet, section 3.2)."""

    def __init__(
        self, vector_size: int, num_classes: int, focus_steps: int, memory_size: int | None = None
    ) -> None:
        super().__init__()
        self.memory_size = memory_size or min(vector_size, _MAX_RECURRENT_MEMORY)
        self.cell = nn.GRUCell(vector_size, self.memory_size)
        self.linear = nn.Linear(self.memory_size, num_classes)

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        return self.cell(vector, memory)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        return self.linear(memory)


class CascadeClassifier(Classifier):
    """One linear layer for each focus step, over the vectors of all views so far.

    What the authors' release has for MobileNetV3 and EfficientNet. The memory is those vectors one
    after the other, zeros where a view is still to come.
    """

    judges_glance = False

    def __init__(
        self, vector_size: int, num_classes: int, focus_steps: int, memory_size: int | None = None
    ) -> None:
        super().__init__()
        self.memory_size = (1 + focus_steps) * vector_size
        if memory_size not in (None, self.memory_size):
            raise ValueError(
                f"the memory of a cascade holds {1 + focus_steps} vectors of {vector_size}, which "
                f"are {self.memory_size} numbers, not {memory_size}; leave the memory_size out"
            )
        self.views = 1 + focus_steps
        self.layers = nn.ModuleList(
            nn.Linear(seen * vector_size, num_classes) for seen in range(2, self.views + 1)
        )

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        place = torch.arange(self.views, device=number.device) == number[:, None]
        views = memory.view(-1, self.views, vector.shape[1])
        return torch.where(place[..., None], vector[:, None], views).flatten(1)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        """Logits (B, K) after focus steps, of numbers in [1, N]."""
        if torch.compiler.is_exporting():
            # A graph cannot choose layers by value: all of them answer, and each row takes its own.
            answers = [layer(memory[:, : layer.in_features]) for layer in self.layers]
            chosen = (number - 1).clamp(min=0)[:, None, None].expand(-1, 1, answers[0].shape[1])
            return torch.stack(answers, dim=1).gather(1, chosen).squeeze(1)
        others = number[(number < 1) | (number >= self.views)]
        if len(others):
            raise ValueError(
                f"this cascade has a layer for each of focus steps 1 to {self.views - 1}, none for "
                f"{sorted(set(others.tolist()))}; build it with more focus steps"
            )
        rows = [torch.nonzero(number == step).squeeze(1) for step in range(1, self.views)]
        answers = [
            layer(memory[chosen, : layer.in_features])
            for layer, chosen in zip(self.layers, rows, strict=True)
        ]
        return torch.cat(answers)[torch.cat(rows).argsort()]


CLASSIFIERS: dict[str, Callable[[int, int, int, int | None], Classifier]] = {
    "recurrent": RecurrentClassifier,
    "cascade": CascadeClassifier,
}


def build_classifier(
    name: str,
    vector_size: int,
    num_classes: int,
    focus_steps: int,
    memory_size: int | None = None,
) -> Classifier:
    """Build a classifier by name.

    Args:
        name: ``recurrent`` or ``cascade``.
        vector_size: Numbers of a view's vector, V.
        num_classes: K.
        focus_steps: N.
        memory_size: M, or None for the classifier's own choice.

    Raises:
        ValueError: There is no classifier of that name, or it cannot have such a memory.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier {name!r}; known: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name](vector_size, num_classes, focus_steps, memory_size)
