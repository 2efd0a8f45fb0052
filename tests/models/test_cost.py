import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gfnet_env.inference import EarlyExitGFNet, count_multiply_adds, part_costs
from gfnet_env.inference.cost import (
    count_parameters,
    peak_activation_bytes,
    step_multiply_adds,
)
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import CenterPolicy, LearnedPolicy, RandomPolicy


def test_a_convolution_and_a_linear_layer_by_hand():
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert count_multiply_adds(convolution, torch.zeros(1, 3, 10, 10)) == 10 * 10 * 8 * 3 * 9
    assert count_multiply_adds(nn.Linear(7, 5), torch.zeros(1, 7)) == 35
    assert count_multiply_adds(nn.GRUCell(7, 5), torch.zeros(1, 7)) == 3 * (7 * 5 + 5 * 5)


class Attention(nn.Module):
    def forward(self, tokens):
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize(
    ("module", "counted"),
    [
        (nn.LSTM(16, 32), 4 * 32 * (16 + 32)),
        (nn.GRU(16, 32), 3 * 32 * (16 + 32)),
        (Attention(), 2 * 8 * 8 * 16),
        # Four products with matrices, and those of attention; then two layers.
        (nn.TransformerEncoderLayer(16, 2, 32), 8 * 4 * 16 * 16 + 2 * 8 * 8 * 16 + 8 * 2 * 16 * 32),
    ],
)
def test_what_a_device_does_at_once_is_counted(module, counted):
    sequence = torch.zeros(
        8 if isinstance(module, Attention | nn.TransformerEncoderLayer) else 1, 1, 16
    )
    tokens = sequence.transpose(0, 1)[None] if isinstance(module, Attention) else sequence
    assert count_multiply_adds(module, tokens) == counted
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()


def test_normalisation_is_free_and_statistics_stay():
    norm = nn.BatchNorm2d(3)
    assert count_multiply_adds(norm, torch.ones(2, 3, 4, 4)) == 0
    assert norm.training
    assert norm.num_batches_tracked == 0


# As the papers have them: He et al. 2016, Howard et al. 2019, Tan and Le 2019, Huang et al. 2017.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet50", 4.1e9),
        ("mobilenetv3_large_100", 0.22e9),
        ("efficientnet_b0", 0.39e9),
        ("densenet121", 2.9e9),
    ],
)
def test_published_counts(name, published):
    counted = count_multiply_adds(timm.create_model(name), torch.zeros(1, 3, 224, 224))
    assert counted == pytest.approx(published, rel=0.03)


def test_counting_leaves_a_network_in_training_as_it_is():
    network = GlanceFocusNetwork.build(encoder="compact", patch_size=16, num_classes=5)
    before = copy.deepcopy(network.state_dict())
    part_costs(network, CenterPolicy())
    step_multiply_adds(network)
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_parts_add_up(network):
    patch = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    encoder = count_multiply_adds(network.local_encoder, patch)
    vector = torch.zeros(1, 128)
    classifier = count_multiply_adds(
        network.classifier, vector, torch.zeros(1, network.memory_size), torch.zeros(1)
    )
    for policy in (CenterPolicy(), RandomPolicy()):
        cost = EarlyExitGFNet(network, policy).multiply_adds
        assert cost == [step * (encoder + classifier) for step in (1, 2, 3, 4)]


def test_the_table_of_parts(network):
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (16,))
    parts = {part.name: part for part in part_costs(network, policy)}
    assert list(parts) == ["global encoder", "local encoder", "classifier", "policy"]
    focus = sum(parts[name].multiply_adds for name in ("local encoder", "classifier", "policy"))
    costs = EarlyExitGFNet(network, policy).multiply_adds
    assert np.diff(costs).tolist() == [focus] * 3
    assert costs[0] == parts["global encoder"].multiply_adds + parts["classifier"].multiply_adds
    assert parts["global encoder"].input_shape == (3, 32, 32)
    learned = sum(parameter.numel() for parameter in [*network.parameters(), *policy.parameters()])
    assert sum(part.parameters for part in parts.values()) == learned
    assert count_parameters(CenterPolicy()) == 0
    assert "policy" not in {part.name for part in part_costs(network)}


def test_the_steps_of_a_cascade_differ_in_cost():
    network = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, classifier="cascade"
    ).eval()
    glance, *focus = np.diff(EarlyExitGFNet(network, CenterPolicy()).multiply_adds, prepend=0)
    patch = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    encoder = count_multiply_adds(network.local_encoder, patch)
    # 128 features of each view, of which the own head takes one and the last step's layer four.
    assert glance == encoder + 128 * 5
    assert [cost - encoder for cost in focus] == [views * 128 * 5 for views in (2, 3, 4)]
    parts = {part.name: part.multiply_adds for part in part_costs(network)}
    assert parts["classifier"] == 4 * 128 * 5


def test_peak_memory_by_hand():
    image, wide, narrow, flat = 4 * 300, 4 * 800, 4 * 400, 4 * 5
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)]
    # The input stays alive, and an activation has its input beside its output.
    assert peak_activation_bytes(nn.Sequential(*layers), torch.zeros(1, 3, 10, 10)) == (
        image + wide + wide
    )
    layers[1] = nn.ReLU(inplace=True)
    assert peak_activation_bytes(nn.Sequential(*layers), torch.zeros(1, 3, 10, 10)) == (
        image + wide + narrow
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(300, 5))
    assert peak_activation_bytes(head, torch.zeros(1, 3, 10, 10)) == image + flat
