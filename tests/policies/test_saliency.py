import numpy as np
import pytest
import torch
from torch import nn

from gfnet_env.encoders import ModuleEncoder
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.images import ArrayImages, load_images
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.models import GlanceFocusNetwork, count_multiply_adds
from gfnet_env.policies import Context, RandomPolicy, SaliencyPolicy, load_policy, save_policy
from gfnet_env.policies.saliency import class_activation


@pytest.fixture
def averaging(tiny_network):
    """A network whose glance is judged by the mean of its map, as class activation maps were."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(3, 7, 3, stride=4, padding=1), nn.ReLU())
    tiny_network.global_encoder = ModuleEncoder(body, nn.Linear(7, 5)).eval()
    return tiny_network


def context(network, images, count):
    return Context(LiveFeatures(network, images), np.arange(count))


def test_the_activation_of_averaged_maps_by_hand(averaging, tiny_images):
    views = tiny_images.overview(range(12), 16)
    encoder = averaging.global_encoder
    with torch.no_grad():
        feature_map, vector = encoder(views)
        best = encoder.head(vector).argmax(dim=1)
    expected = (encoder.own_head.weight[best][:, :, None, None] * feature_map).sum(dim=1)
    found = class_activation(averaging, views)
    torch.testing.assert_close(found, expected.detach() / 16, atol=1e-6, rtol=1e-4)


def test_no_weight_learns_and_callers_need_no_gradients(averaging, tiny_images):
    views = tiny_images.overview(range(4), 16)
    expected = class_activation(averaging, views)
    assert all(parameter.grad is None for parameter in averaging.parameters())
    averaging.requires_grad_(False)
    with torch.inference_mode():
        found = class_activation(averaging, tiny_images.overview(range(4), 16))
    assert torch.equal(found, expected)
    assert not found.requires_grad
    encoder = averaging.global_encoder
    normalised = (views - encoder.mean) / encoder.std
    torch.testing.assert_close(class_activation(averaging, normalised, normalised=True), expected)


def test_the_strongest_cell_that_is_not_covered_comes_next(network, digits):
    policy = SaliencyPolicy()
    activation = class_activation(network, digits.overview(range(5), 32)).flatten(1)
    state = policy.start(context(network, digits, 5))
    nothing = torch.zeros_like(activation)

    first, later = policy({"seen": nothing}, state)
    ranked = activation.argsort(dim=1, descending=True)
    centres = (torch.stack([ranked[:, 0] // 8, ranked[:, 0] % 8], dim=1) + 0.5) * 16
    corners = (first + 1) / 2 * (128 - 32)
    inside = (centres >= 16) & (centres <= 128 - 16)
    torch.testing.assert_close((corners + 16)[inside], centres[inside])
    assert inside.any()

    # It was chosen; so it does not come again, covered or not.
    second, _ = policy({"seen": nothing}, later)
    assert (second != first).any(dim=1).all()
    best_covered = nothing.scatter(1, ranked[:, :1], 0.6)
    assert torch.equal(policy({"seen": best_covered}, state)[0], second)
    barely = nothing.scatter(1, ranked[:, :1], 0.4)
    assert torch.equal(policy({"seen": barely}, state)[0], first)
    everywhere, _ = policy({"seen": torch.ones_like(nothing)}, state)
    assert torch.equal(everywhere, first)


def test_patches_do_not_come_back_and_leave_the_batch_alone(network, digits):
    record = evaluate_policy(network, SaliencyPolicy(), digits)
    for trail in record.locations:
        assert len(np.unique(trail, axis=0)) == 3
    gfnet = EarlyExitGFNet(network, SaliencyPolicy(), [0.5, 0.6, 0.7, 0.0])
    locations = gfnet(digits[:]).locations
    taken = ~locations.isnan()
    assert 0 < taken.float().mean() < 1
    torch.testing.assert_close(locations[taken], torch.from_numpy(record.locations)[taken])


def test_small_patches_of_large_images_go_on_to_other_cells():
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(encoder="compact", patch_size=8, num_classes=3).eval()
    images = torch.randint(256, (3, 3, 96, 96), dtype=torch.uint8)
    policy = SaliencyPolicy()
    state = policy.start(context(network, ArrayImages(images), 3))
    unseen = {"seen": torch.zeros(3, 4)}
    chosen = []
    for _ in range(4):
        locations, state = policy(unseen, state)
        chosen.append(locations)
    assert all(len(trail.unique(dim=0)) == 4 for trail in torch.stack(chosen, dim=1))


def test_it_looks_where_the_digit_is_more_often_than_chance(network):
    images = load_images("cluttered-digits:scenes=200", "test")
    salient = evaluate_policy(network, SaliencyPolicy(), images)
    random = evaluate_policy(network, RandomPolicy(), images)
    assert salient.accuracy[-1] >= random.accuracy[-1] + 0.05


def test_its_glance_is_paid_for(network):
    view = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    encoder = count_multiply_adds(network.global_encoder, view)
    salient, random = (
        EarlyExitGFNet(network, policy).multiply_adds
        for policy in (SaliencyPolicy(), RandomPolicy())
    )
    assert encoder <= salient[0] - random[0] <= 1.1 * encoder
    assert np.diff(salient).tolist() == np.diff(random).tolist()


def test_it_survives_saving_and_says_what_it_misses(network, digits, tmp_path):
    save_policy(SaliencyPolicy(), tmp_path)
    loaded = load_policy(tmp_path)
    assert isinstance(loaded, SaliencyPolicy)
    unseen = {"seen": torch.zeros(2, 64)}
    start = context(network, digits, 2)
    assert torch.equal(
        loaded(unseen, loaded.start(start))[0],
        SaliencyPolicy()(unseen, SaliencyPolicy().start(start))[0],
    )


def test_glances_may_have_maps_of_their_own(tiny_images):
    torch.manual_seed(0)
    network = GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, glance_size=24, num_classes=5, focus_steps=2
    ).eval()
    record = evaluate_policy(network, SaliencyPolicy(), tiny_images)
    assert record.looks.tolist() == [2] * 12
    assert (record.locations[:, 0] != record.locations[:, 1]).any(axis=1).all()
