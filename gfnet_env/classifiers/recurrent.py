"""The classifier of the GFNet paper."""

from torch import Tensor, nn

from gfnet_env.classifiers.base import CLASSIFIERS, Classifier, check_sizes

# Enough for a few views. At the 1,280 features of a mobile network, a larger memory would cost as
# much as the encoder.
_MAX_MEMORY = 512


@CLASSIFIERS.register("recurrent")
class RecurrentClassifier(Classifier):
    """A gated recurrent unit over the views, then a linear layer (GFNet, section 3.2).

    Its M hidden units are ``memory_size``, or by default V, but at most 512.
    """

    def __init__(self, vector_size: int, num_classes: int, memory_size: int | None = None) -> None:
        super().__init__()
        check_sizes(vector_size=vector_size, num_classes=num_classes)
        own = min(vector_size, _MAX_MEMORY)
        self.memory_size = own if memory_size is None else memory_size
        check_sizes(memory_size=self.memory_size)
        self.cell = nn.GRUCell(vector_size, self.memory_size)
        self.linear = nn.Linear(self.memory_size, num_classes)

    def remember(self, vector: Tensor, memory: Tensor, number: Tensor) -> Tensor:
        return self.cell(vector, memory)

    def judge(self, memory: Tensor, number: Tensor) -> Tensor:
        return self.linear(memory)
