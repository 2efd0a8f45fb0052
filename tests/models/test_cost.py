import copy
import threading
import time

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gfnet_env.models import (
    GlanceFocusNetwork,
    count_multiply_adds,
    count_parameters,
    part_costs,
    peak_activation_bytes,
    policy_multiply_adds,
    start_multiply_adds,
)
from gfnet_env.policies import CenterPolicy, RandomPolicy


def test_a_convolution_and_a_linear_layer_by_hand():
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert count_multiply_adds(convolution, torch.zeros(1, 3, 10, 10)) == 10 * 10 * 8 * 3 * 9
    assert count_multiply_adds(nn.Linear(7, 5), torch.zeros(1, 7)) == 35
    assert count_multiply_adds(nn.Linear(7, 5), input=torch.zeros(1, 7)) == 35
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


def test_counting_leaves_no_setting_changed_where_it_fails_or_several_count():
    module = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_multiply_adds(module, torch.zeros(1, 6))
    found = []

    def count():
        found.extend(count_multiply_adds(module, torch.zeros(1, 7)) for _ in range(20))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [35] * 80
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(part.training for part in module.modules())


# What Python 3.12 says of any fork beside a thread.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_compiled_code_is_counted_like_any_other(tiny_network):
    encoder = tiny_network.global_encoder
    compiled = torch.compile(encoder, backend="eager")
    views = torch.zeros(1, 3, 16, 16)
    costs = [
        (count_multiply_adds(each, views), peak_activation_bytes(each, views))
        for each in (encoder, compiled)
    ]
    assert costs[0] == costs[1]


def test_a_process_that_is_forked_meanwhile_can_count(forked):
    module, counting = nn.Linear(7, 5), threading.Event()

    def slow(rows):
        counting.set()
        time.sleep(0.1)
        return module(rows)

    thread = threading.Thread(target=count_multiply_adds, args=(slow, torch.zeros(1, 7)))
    thread.start()
    counting.wait()

    def work():
        assert torch.backends.mkldnn.enabled
        assert count_multiply_adds(module, torch.zeros(1, 7)) == 35

    assert forked(work) == 0
    thread.join()


def test_normalisation_is_free_and_statistics_stay():
    norm = nn.BatchNorm2d(3)
    assert count_multiply_adds(norm, torch.ones(2, 3, 4, 4)) == 0
    assert norm.training
    assert norm.num_batches_tracked == 0


# As the papers have them: He et al. 2016, Howard et al. 2019, Tan and Le 2019, Huang et al. 2017,
# Liu et al. 2021.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet50", 4.1e9),
        ("mobilenetv3_large_100", 0.22e9),
        ("efficientnet_b0", 0.39e9),
        ("densenet121", 2.9e9),
        ("swin_tiny_patch4_window7_224", 4.5e9),
    ],
)
def test_published_counts(name, published):
    counted = count_multiply_adds(timm.create_model(name), torch.zeros(1, 3, 224, 224))
    assert counted == pytest.approx(published, rel=0.03)


def test_counting_leaves_a_network_in_training_as_it_is():
    network = GlanceFocusNetwork.build(encoder="compact", patch_size=16, num_classes=5)
    before = copy.deepcopy(network.state_dict())
    part_costs(network, CenterPolicy())
    network.multiply_adds()
    assert all(part.training for part in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_parts_add_up(network):
    patch = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    encoder = count_multiply_adds(network.local_encoder, patch)
    vector = torch.zeros(1, 128)
    classifier = count_multiply_adds(
        network.classifier, vector, torch.zeros(1, network.memory_size), torch.zeros(1)
    )
    assert network.multiply_adds() == [encoder + classifier] * 4
    for policy in (CenterPolicy(), RandomPolicy()):
        assert policy_multiply_adds(policy, network) == 0
        assert start_multiply_adds(policy, network) == 0


class LinearPolicy(nn.Module):
    """Looks where a linear layer over the memory says, and starts from a glance of its own."""

    def __init__(self, memory_size):
        super().__init__()
        self.linear = nn.Linear(memory_size, 2)

    def start(self, context):
        views = context.features.images.overview(context.indices, context.model.view)
        return context.model.encode_overview(views).vector

    def forward(self, observation, memory):
        return self.linear(observation["memory"]).tanh(), memory


def test_the_table_of_parts(network):
    policy = LinearPolicy(network.memory_size)
    parts = {part.name: part for part in part_costs(network, policy)}
    assert list(parts) == ["global encoder", "local encoder", "classifier", "policy"]
    glance, *looks = network.multiply_adds()
    focus = sum(parts[name].multiply_adds for name in ("local encoder", "classifier"))
    assert looks == [focus] * 3
    assert glance == parts["global encoder"].multiply_adds + parts["classifier"].multiply_adds
    assert parts["global encoder"].input_shape == (3, 32, 32)
    assert parts["policy"].multiply_adds == policy_multiply_adds(policy, network)
    assert parts["policy"].multiply_adds == 2 * network.memory_size
    assert start_multiply_adds(policy, network) == parts["global encoder"].multiply_adds
    learned = sum(parameter.numel() for parameter in [*network.parameters(), *policy.parameters()])
    assert sum(part.parameters for part in parts.values()) == learned
    assert count_parameters(CenterPolicy()) == 0
    assert "policy" not in {part.name for part in part_costs(network)}


def test_the_steps_of_a_cascade_differ_in_cost():
    network = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, classifier="cascade"
    )
    glance, *looks = network.multiply_adds()
    patch = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    encoder = count_multiply_adds(network.local_encoder, patch)
    # 128 features of each view, of which the own head takes one and the last step's layer four.
    assert glance == encoder + 128 * 5
    assert (np.array(looks) - encoder).tolist() == [views * 128 * 5 for views in (2, 3, 4)]
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
