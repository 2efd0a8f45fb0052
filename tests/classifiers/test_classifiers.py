import sys

import pytest
import torch
from torch import nn

from gfnet_env.classifiers import CLASSIFIERS, Classifier, build_classifier
from gfnet_env.models import GlanceFocusNetwork


def test_a_cascade_has_a_linear_layer_for_each_look():
    torch.manual_seed(0)
    cascade = build_classifier("cascade", 6, 4, 3)
    vectors = torch.randn(4, 5, 6)
    memory = cascade.empty_memory(vectors[0])
    assert [layer.in_features for layer in cascade.layers] == [12, 18, 24]
    for number, vector in enumerate(vectors):
        numbers = torch.full((5,), number)
        memory = cascade.remember(vector, memory, numbers)
        seen = vectors[: number + 1].transpose(0, 1).flatten(1)
        assert torch.equal(memory[:, : seen.shape[1]], seen)
        assert not memory[:, seen.shape[1] :].any()
        if number > 0:
            expected = cascade.layers[number - 1](seen)
            torch.testing.assert_close(cascade.judge(memory, numbers), expected)


def test_rows_of_a_cascade_may_be_at_different_steps():
    torch.manual_seed(0)
    cascade = build_classifier("cascade", 6, 4, 3)
    memory, numbers = torch.randn(7, 24), torch.tensor([3, 1, 2, 2, 1, 3, 1])
    together = cascade.judge(memory, numbers)
    for row in range(7):
        alone = cascade.judge(memory[row : row + 1], numbers[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)
    assert cascade.judge(memory[:0], numbers[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"looks 1 to 3, none for \[4\]"):
        cascade.judge(memory[:2], torch.tensor([3, 4]))


def test_the_memory_of_a_recurrent_classifier_is_a_choice():
    assert build_classifier("recurrent", 600, 4, 3).memory_size == 512
    classifier = build_classifier("recurrent", 600, 4, 3, 1024)
    assert classifier.cell.hidden_size == classifier.memory_size == 1024
    with pytest.raises(ValueError, match="4 vectors of 6 numbers, 24 in all, not 7"):
        build_classifier("cascade", 6, 4, 3, 7)
    with pytest.raises(ValueError, match="unknown classifier 'oracle'; known: cascade; recurrent"):
        build_classifier("oracle", 6, 4, 3)
    with pytest.raises(ValueError, match="'recurrent:layers=2' has no parameter 'layers'"):
        build_classifier("recurrent:layers=2", 6, 4, 3)


class MeanClassifier(Classifier):
    """A classifier of one's own: a linear layer over the mean of all views."""

    def __init__(self, vector_size: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.memory_size = vector_size
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(vector_size, num_classes))

    def remember(self, vector, memory, number):
        return memory + (vector - memory) / (number + 1)[:, None]

    def judge(self, memory, number):
        return self.layers(memory)


def test_a_classifier_of_ones_own(tmp_path, monkeypatch):
    spec = "my_classifiers:MeanClassifier:dropout=0.5"
    monkeypatch.setitem(sys.modules, "my_classifiers", sys.modules[__name__])
    classifier = build_classifier(spec, 6, 4, 3)
    vectors, memory = torch.randn(3, 2, 6), torch.zeros(2, 6)
    for number, vector in enumerate(vectors):
        memory = classifier.remember(vector, memory, torch.full((2,), number))
    torch.testing.assert_close(memory, vectors.mean(dim=0))
    assert classifier.layers[0].p == 0.5
    network = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=4, classifier=spec
    )
    network.save(tmp_path)
    assert GlanceFocusNetwork.load(tmp_path).config == network.config
    monkeypatch.delitem(sys.modules, "my_classifiers")
    with pytest.raises(ValueError, match="'my_classifiers', which no file may import"):
        GlanceFocusNetwork.load(tmp_path)
    with pytest.raises(ValueError, match="makes a Linear; make a Classifier"):
        build_classifier("torch.nn:Linear:in_features=2,out_features=2", 6, 4, 3)


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="the classifier 'cascade' exists already"):
        CLASSIFIERS.register("cascade")(MeanClassifier)
