import pytest
import torch

from gfnet_env.perception.classifiers import build_classifier


def test_a_cascade_has_a_linear_layer_for_each_focus_step():
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
    with pytest.raises(ValueError, match=r"focus steps 1 to 3, none for \[4\]"):
        cascade.judge(memory[:2], torch.tensor([3, 4]))


def test_the_memory_of_a_recurrent_classifier_is_a_choice():
    assert build_classifier("recurrent", 600, 4, 3).memory_size == 512
    classifier = build_classifier("recurrent", 600, 4, 3, 1024)
    assert classifier.cell.hidden_size == classifier.memory_size == 1024
    with pytest.raises(ValueError, match="holds 4 vectors of 6, which are 24 numbers, not 7"):
        build_classifier("cascade", 6, 4, 3, 7)
    with pytest.raises(ValueError, match="unknown classifier 'oracle'; known: recurrent, cascade"):
        build_classifier("oracle", 6, 4, 3)
