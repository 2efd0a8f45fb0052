import pytest
import timm
import torch
from torch import nn

from gfnet_env.inference import EarlyExitGFNet, count_multiply_adds
from gfnet_env.policies import CenterPolicy, RandomPolicy


def test_a_convolution_and_a_linear_layer_by_hand():
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert count_multiply_adds(convolution, torch.zeros(1, 3, 10, 10)) == 10 * 10 * 8 * 3 * 9
    assert count_multiply_adds(nn.Linear(7, 5), torch.zeros(1, 7)) == 35
    assert count_multiply_adds(nn.GRUCell(7, 5), torch.zeros(1, 7)) == 3 * (7 * 5 + 5 * 5)


def test_normalisation_is_free_and_statistics_stay():
    norm = nn.BatchNorm2d(3)
    assert count_multiply_adds(norm, torch.ones(2, 3, 4, 4)) == 0
    assert norm.training
    assert norm.num_batches_tracked == 0


# As the papers have them: He et al. 2016, Howard et al. 2019.
@pytest.mark.parametrize(
    ("name", "published"), [("resnet50", 4.1e9), ("mobilenetv3_large_100", 0.219e9)]
)
def test_published_counts(name, published):
    counted = count_multiply_adds(timm.create_model(name), torch.zeros(1, 3, 224, 224))
    assert counted == pytest.approx(published, rel=0.03)


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
