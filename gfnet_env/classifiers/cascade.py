"""The classifier for MobileNetV3 and EfficientNet in the GFNet authors' release."""

from typing import Annotated

import torch
from torch import Tensor, nn

from gfnet_env.classifiers.base import CLASSIFIERS, Classifier, check_sizes
from gfnet_env.settings import AtLeast, AtMost, checked


@CLASSIFIERS.register("cascade")
class CascadeClassifier(Classifier):
    """One linear layer for each look, over the vectors of all views so far.

    The memory holds the vectors of all 1 + N views in order, with zeros for future views.
    ``memory_size`` must be None or (1 + N)·V.
    """

    judges_glance = False

    def __init__(
        self, vector_size: int, num_classes: int, focus_steps: int, memory_size: int | None = None
    ) -> None:
        super().__init__()
        check_sizes(vector_size=vector_size, num_classes=num_classes)
        checked("focus_steps", focus_steps, Annotated[int, AtLeast(1), AtMost(1000)])
        self.views = 1 + focus_steps
        self.memory_size = self.views * vector_size
        if memory_size not in (None, self.memory_size):
            raise ValueError(
                f"the memory of a cascade holds {self.views} vectors of {vector_size} numbers, "
                f"{self.memory_size} in all, not {memory_size}; leave the memory_size out"
            )
        self.layers = nn.ModuleList(
            nn.Linear(seen * vector_size, num_classes) for seen in range(2, self.views + 1)
        )

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        place = torch.arange(self.views, device=number.device) == number[:, None]
        views = memory.view(-1, self.views, vector.shape[1])
        return torch.where(place[..., None], vector[:, None], views).flatten(1)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        """Logits (B, K) after ``number`` looks, each in [1, N]."""
        if torch.compiler.is_exporting():
            # A graph cannot choose layers by value, so all of them run and each row takes its own.
            answers = [layer(memory[:, : layer.in_features]) for layer in self.layers]
            chosen = (number - 1).clamp(min=0)[:, None, None].expand(-1, 1, answers[0].shape[1])
            return torch.stack(answers, dim=1).gather(1, chosen).squeeze(1)
        others = number[(number < 1) | (number >= self.views)]
        if len(others):
            raise ValueError(
                f"this cascade has a layer for each of looks 1 to {self.views - 1}, none for "
                f"{sorted(set(others.tolist()))}; build it with more focus_steps"
            )
        rows = [torch.nonzero(number == look).squeeze(1) for look in range(1, self.views)]
        answers = [
            layer(memory[chosen, : layer.in_features])
            for layer, chosen in zip(self.layers, rows, strict=True)
        ]
        return torch.cat(answers)[torch.cat(rows).argsort()]
