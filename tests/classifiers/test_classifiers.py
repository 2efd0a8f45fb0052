import sys
import types

import pytest
import torch
from torch import nn

from gfnet_env.classifiers import (
    CLASSIFIERS,
    PLACE_SIZE,
    Classifier,
    build_classifier,
    place,
)
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
    known = "attention:hidden_size=128; cascade; evidence:keep_glance=True; recurrent"
    with pytest.raises(ValueError, match=f"unknown classifier 'oracle'; known: {known}"):
        build_classifier("oracle", 6, 4, 3)
    with pytest.raises(ValueError, match="'recurrent:layers=2' has no parameter 'layers'"):
        build_classifier("recurrent:layers=2", 6, 4, 3)


@pytest.mark.parametrize("spec", ["evidence", "attention:hidden_size=8"])
def test_classifiers_over_sets_take_any_number_of_views_in_any_order(spec):
    torch.manual_seed(0)
    classifier = build_classifier(spec, 6, 4, 2)
    views = [torch.randn(3, 6 + PLACE_SIZE) for _ in range(9)]
    number = torch.zeros(3, dtype=torch.int64)

    def judged(order):
        memory = classifier.empty_memory(views[0])
        for each in order:
            memory = classifier.remember(views[each], memory, number)
        assert memory.shape == (3, classifier.memory_size)
        return classifier.judge(memory, number)

    torch.testing.assert_close(judged(range(9)), judged(reversed(range(9))))
    assert not torch.allclose(judged(range(9)), judged(range(8)))
    # A great weight of one view does not overflow, and none is lost.
    far = [50 * view for view in views]
    views[:] = far
    assert judged(range(9)).isfinite().all()


def test_a_view_without_evidence_changes_nothing():
    torch.manual_seed(0)
    classifier = build_classifier("evidence", 6, 4, 2)
    number = torch.zeros(3, dtype=torch.int64)
    memory = classifier.remember(torch.randn(3, 6 + PLACE_SIZE), torch.zeros(3, 4), number)
    empty = torch.cat([torch.zeros(3, 6), torch.rand(3, PLACE_SIZE)], dim=1)
    assert torch.equal(classifier.remember(empty, memory, number), memory)
    assert torch.allclose(memory.sum(dim=1), torch.zeros(3), atol=1e-6)


def test_evidence_may_count_the_glance_before_any_look_only():
    torch.manual_seed(0)
    classifier = build_classifier("evidence:keep_glance=False", 6, 4, 2)
    glance, *windows = torch.randn(3, 3, 6 + PLACE_SIZE)
    numbers = [torch.full((3,), number) for number in range(3)]
    begun = classifier.remember(glance, classifier.empty_memory(glance), numbers[0])
    assert begun.any()
    with_glance, without = begun, torch.zeros_like(begun)
    for number, window in zip(numbers[1:], windows, strict=True):
        with_glance = classifier.remember(window, with_glance, number)
        without = classifier.remember(window, without, number)
    torch.testing.assert_close(with_glance, without)
    assert without.any()


def test_attention_learns_which_view_is_the_uppermost():
    """Its weights depend on places: what no sum of evidence from vectors alone could know."""
    torch.manual_seed(0)
    classifier = build_classifier("attention:hidden_size=32", 5, 5, 3)
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
    number = torch.zeros(256, dtype=torch.int64)
    for _ in range(150):
        labels, rows = torch.randint(5, (256, 3)), 2 * torch.rand(256, 3) - 1
        memory = torch.zeros(256, classifier.memory_size)
        for view in range(3):
            where = place(torch.stack([rows[:, view], 0 * rows[:, view]], 1), torch.ones(256))
            vector = torch.nn.functional.one_hot(labels[:, view], 5).float()
            memory = classifier.remember(torch.cat([vector, where], 1), memory, number)
        logits = classifier.judge(memory, number)
        uppermost = labels.gather(1, rows.argmin(dim=1, keepdim=True)).squeeze(1)
        loss = torch.nn.functional.cross_entropy(logits, uppermost)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (logits.argmax(dim=1) == uppermost).float().mean() > 0.85


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


class _Broken(MeanClassifier):
    """A classifier of one's own with something else in place of a method or an attribute."""

    def __init__(self, vector_size, num_classes, **others):
        super().__init__(vector_size, num_classes)
        for name, other in others.items():
            setattr(self, name, other)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"judge": lambda memory, number: None}, r"judge .* \(2, 4\) floats .*, not NoneType"),
        ({"judge": lambda memory, number: memory}, r"must return \(2, 4\) floats .* \(2, 6\)"),
        ({"judge": lambda memory, number: memory[:1, :4]}, r"not \(1, 4\)"),
        ({"judge": lambda memory, number: memory[:, :4].long()}, "torch.int64"),
        ({"remember": lambda vector, memory, number: None}, r"remember .* \(2, 6\) .* NoneType"),
        ({"remember": lambda vector, memory, number: vector[:, :5]}, r"not \(2, 5\)"),
        ({"memory_size": None}, "has no memory_size"),
        ({"memory_size": 7}, "does not take vectors of 6 numbers"),
        ({"sees_places": True}, "does not take vectors of 9 numbers"),
    ],
)
def test_what_a_classifier_of_ones_own_does_is_checked_before_training(
    others, message, monkeypatch
):
    def own(vector_size, num_classes):
        return _Broken(vector_size, num_classes, **others)

    monkeypatch.setitem(sys.modules, "my_classifiers", types.SimpleNamespace(own=own))
    with pytest.raises(ValueError, match=message):
        build_classifier("my_classifiers:own", 6, 4, 3)


@pytest.mark.parametrize("size", [0, -1, 10**11])
def test_attention_has_units_in_its_hidden_layer(size):
    with pytest.raises(ValueError, match=f"hidden_size of .* must be at .*, not {size}"):
        build_classifier(f"attention:hidden_size={size}", 6, 4, 3)
