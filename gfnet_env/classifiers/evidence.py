"""A classifier over sets of views, which adds up their evidence in any order."""

import torch
from torch import Tensor, nn

from gfnet_env.classifiers.base import CLASSIFIERS, PLACE_SIZE, Classifier, check_sizes
from gfnet_env.settings import checked


@CLASSIFIERS.register("evidence")
class EvidenceClassifier(Classifier):
    """The sum of the evidence of all views for each class, so any number of looks is allowed.

    The evidence of a view is linear in its vector and centred over the classes, times a gate in [0,
    1] that depends on the vector and the place. Logits are the sum plus a bias, the knowledge
    before any look; a view with zero evidence changes nothing.

    The memory is the sum, of size K; ``memory_size`` must be None or K.

    Args:
        keep_glance: Whether the glance still counts once there are looks. Where windows show all
            that matters, it says again, less clearly, what they say.
    """

    sees_places = True
    over_sets = True

    def __init__(
        self,
        vector_size: int,
        num_classes: int,
        memory_size: int | None = None,
        keep_glance: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(vector_size=vector_size, num_classes=num_classes)
        if memory_size not in (None, num_classes):
            raise ValueError(
                f"the memory of the evidence classifier is a number for each of {num_classes} "
                f"classes, not {memory_size}; leave the memory_size out"
            )
        self.memory_size = num_classes
        self.keep_glance = checked("keep_glance", keep_glance, bool)
        self.evidence = nn.Linear(vector_size, num_classes, bias=False)
        self.gate = nn.Linear(vector_size + PLACE_SIZE, 1)
        # Open at first: for views that are independent given the class, the sum is right as it is.
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        if not self.keep_glance:
            memory = memory * (number != 1)[:, None]
        return memory + self.gate(vector).sigmoid() * self._centred(vector)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        return memory + self.bias

    def judge_alone(self, vector: Tensor) -> Tensor:
        # Not gated: a closed gate would stop the evidence from learning.
        return self._centred(vector) + self.bias

    def _centred(self, vector: Tensor) -> Tensor:
        evidence: Tensor = self.evidence(vector[:, :-PLACE_SIZE])
        return evidence - evidence.mean(dim=1, keepdim=True)
