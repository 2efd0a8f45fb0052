"""A classifier: --classifier mean_classifier:Mean:dropout=0.1."""

import torch
from torch import nn

from gfnet_env.classifiers import Classifier


class Mean(Classifier):
    """A linear layer over the mean of the views' vectors.

    Args:
        vector_size: V, length of a view's vector.
        num_classes: K.
        dropout: Share of the mean that is dropped in training.
    """

    def __init__(self, vector_size: int, num_classes: int, dropout: float = 0.0):
        super().__init__()
        self.memory_size = vector_size
        self.judge_mean = nn.Sequential(nn.Dropout(dropout), nn.Linear(vector_size, num_classes))

    def remember(self, vector, memory, number):
        return torch.lerp(memory, vector, 1 / (1 + number[:, None]).to(vector))

    def judge(self, memory, number):
        return self.judge_mean(memory)
