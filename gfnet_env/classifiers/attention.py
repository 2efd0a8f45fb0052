"""A classifier over sets of views, pooled by attention."""

from typing import Annotated

import torch
from torch import Tensor, nn

from gfnet_env.classifiers.base import CLASSIFIERS, PLACE_SIZE, Classifier, check_sizes
from gfnet_env.settings import AtLeast, AtMost


@CLASSIFIERS.register("attention")
class AttentionClassifier(Classifier):
    """Gated attention over the views (Ilse et al., ICML 2018, equation 9), and a hidden layer.

    A view's weight depends on its vector and its place, so that rules such as "the uppermost" can
    be learned. The softmax over the views is kept as a running sum, so the memory does not grow and
    any number of looks is allowed.

    Args:
        hidden_size: Size of the pooled values, and of the layer over them.
    """

    sees_places = True
    over_sets = True

    def __init__(
        self,
        vector_size: int,
        num_classes: int,
        memory_size: int | None = None,
        hidden_size: Annotated[int, AtLeast(1), AtMost(10_000)] = 128,
    ) -> None:
        super().__init__()
        check_sizes(vector_size=vector_size, num_classes=num_classes, hidden_size=hidden_size)
        # The sum of the weighted values, the sum of the weights, and their largest logarithm.
        self.memory_size = hidden_size + 2
        if memory_size not in (None, self.memory_size):
            raise ValueError(
                f"the memory of this attention classifier is {self.memory_size} numbers, not "
                f"{memory_size}; leave the memory_size out and set hidden_size in the spec"
            )
        seen = vector_size + PLACE_SIZE
        self.value = nn.Linear(seen, hidden_size)
        self.content = nn.Linear(seen, hidden_size)
        self.gate = nn.Linear(seen, hidden_size)
        self.weight = nn.Linear(hidden_size, 1)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_classes),
        )

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        score = self.weight(self.content(vector).tanh() * self.gate(vector).sigmoid())
        pooled, total, highest = memory[:, :-2], memory[:, -2:-1], memory[:, -1:]
        # An empty memory has no weight yet, regardless of its highest score.
        highest = torch.where(total > 0, highest, score)
        top = torch.maximum(highest, score)
        before, now = (highest - top).exp(), (score - top).exp()
        values = before * pooled + now * self.value(vector)
        return torch.cat([values, before * total + now, top], dim=1)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        return self.head(memory[:, :-2] / memory[:, -2:-1])
