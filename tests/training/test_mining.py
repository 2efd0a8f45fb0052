import math

import numpy as np
import pytest
import torch

from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.images import Batch, MegapixelMNIST, batches
from gfnet_env.looks import Look
from gfnet_env.policies import HeatPolicy, RandomPolicy
from gfnet_env.rollout import begin, glance
from gfnet_env.training import ClassifierConfig, ClassifierSchedule, train_classifier
from gfnet_env.training.classifier import LookObjective
from gfnet_env.training.mining import Candidates, MinedWindows, Miner, _activation

NETWORK = {
    "glance_encoder": "compact:widths=[4,8],strides=[2,2]",
    "glance_size": 48,
    "patch_size": 16,
    "focus_steps": 3,
    "classifier": "evidence",
}


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 96, 128), dtype=np.uint8)
    return ArrayImages(pixels, np.array([0, 0, 0, 1, 1, 2, 3, 4]))


@pytest.fixture
def network():
    torch.manual_seed(0)
    parts = NETWORK | {"encoder": "compact", "where_scales": (1.0, 2.0)}
    return GlanceFocusNetwork.build(num_classes=5, **parts)


@pytest.fixture
def miner(images, network):
    network.where.expect(images.labels)
    return Miner(network, seed=0)


def mined(network, images, miner, indices=(0, 1, 2, 3, 4, 5, 6, 7), epoch=0):
    """The policy after an episode, and its looks: locations (B, N, 2) and scales (B, N)."""
    windows, chosen = MinedWindows(miner, epoch), np.array(indices)
    features = LiveFeatures(network, images)
    overviews = features.overview(chosen)
    state = begin(features, chosen, overviews)
    batch = Batch(chosen, images.labels[chosen])
    looks = windows.find(state, overviews.map, features, batch)
    return windows, looks.location.view(len(chosen), 3, 2), looks.scale.view(len(chosen), 3)


def test_candidates_lie_in_the_picture_at_the_scales_of_the_map(network, images, miner):
    policy, locations, scales = mined(network, images, miner)
    found = policy.candidates
    assert found.location.shape == (8, 24, 2)
    Look.at(found.location.flatten(0, 1), found.scale.flatten()).check(192)
    assert set(found.scale.unique().tolist()) == {1.0, 2.0}
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert network.training
    assert network.local_encoder.training
    for row in range(8):
        assert places(locations[row], scales[row]) <= places(found.location[row], found.scale[row])


def places(locations, scales):
    """Rows, columns and scales, as a set."""
    return {
        (*place, scale) for place, scale in zip(locations.tolist(), scales.tolist(), strict=True)
    }


def test_windows_depend_on_image_epoch_and_seed_alone(network, images, miner):
    network.eval()
    _, together, _ = mined(network, images, miner)
    _, alone, _ = mined(network, images, miner, [5])
    assert torch.allclose(together[5], alone[0], atol=1e-6)
    assert not torch.allclose(together, mined(network, images, miner, epoch=1)[1])
    other = Miner(network, seed=1)
    assert not torch.allclose(together, mined(network, images, other)[1])


def test_what_says_most_comes_first_once_the_classifier_beats_chance(network, images, miner):
    """Until then, contrast decides; the map, which learns from the scores, has no say."""
    miner.random_share = 0.0
    assert not miner.trusts_scores
    policy, locations, scales = mined(network, images, miner)
    # The map's eight come last.
    found, others = policy.candidates, slice(0, -8)
    assert torch.equal(locations[:, 0], found.location[:, 0])
    for row in range(8):
        proposed = places(found.location[row, others], found.scale[row, others])
        assert places(locations[row], scales[row]) <= proposed

    for _ in range(60):
        miner.observe(torch.full((4,), 0.5))
    assert miner.trusts_scores
    policy, locations, _ = mined(network, images, miner)
    assert policy.candidates.score.shape[1] < found.score.shape[1]
    best = policy.candidates.score.argmax(dim=1)
    assert torch.equal(locations[:, 0], policy.candidates.location[torch.arange(8), best])


def test_no_two_windows_show_the_same(network, images, miner):
    miner.loss.fill_(0.1)
    _, locations, scales = mined(network, images, miner)
    sizes = images.sizes(np.arange(8))
    for first in range(3):
        for second in range(first):
            one, two = (
                network.view.window_boxes(Look.at(locations[:, n], scales[:, n]), sizes)
                for n in (first, second)
            )
            shared = torch.minimum(one[:, 2:], two[:, 2:]) - torch.maximum(one[:, :2], two[:, :2])
            areas = [(box[:, 2:] - box[:, :2]).prod(dim=1) for box in (one, two)]
            shared = shared.clamp(min=0).prod(dim=1)
            assert (shared / (sum(areas) - shared) <= 0.31).all()


def test_no_window_is_looked_at_twice(network, images, miner):
    miner.loss.fill_(0.1)
    network.set_focus_steps(14)
    windows = MinedWindows(miner, 0)
    boxes = torch.zeros(2, 14, 4)
    # All show the same.
    boxes[..., 2:] = 16
    score = torch.linspace(1, 0, 14).expand(2, 14)
    same = Candidates(torch.zeros(2, 14, 2), torch.ones(2, 14), boxes, score)
    chosen = windows._choose(same, torch.tensor([0, 1]))
    assert torch.equal(chosen.sort(dim=1).values, torch.arange(14).expand(2, 14))


def test_more_windows_than_candidates_are_refused(network, images):
    network.where.expect(images.labels)
    network.set_focus_steps(15)
    with pytest.raises(ValueError, match="focus_steps may be at most 14, not 15"):
        Miner(network, seed=0)


def test_a_score_is_how_far_a_belief_is_from_the_prior(network, images):
    network.where.expect(images.labels)
    assert network.where.prior.tolist() == [3 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8]
    logits = network.where.prior.log().repeat(2, 1)
    logits[1, 4] = 60.0
    assert network.where.score(logits).tolist() == pytest.approx([0, 1], abs=1e-5)


def test_the_map_learns_the_scores(network, images, miner):
    policy, _, _ = mined(network, images, miner)
    policy.candidates.score.fill_(0.9)
    optimiser = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(80):
        state = glance(LiveFeatures(network, images), np.arange(8))
        loss = policy.where_loss(state).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # No cross-entropy against 0.9 is smaller.
    assert loss.item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1), abs=0.02)


def test_the_loss_has_a_part_for_the_map(network, images, miner):
    batch_losses = []
    for weight in (0.0, 1.0):
        schedule = ClassifierSchedule(encoder_loss=1.0, where_loss=weight).resolved()
        objective = LookObjective(network.eval(), lambda epoch: RandomPolicy(), schedule, miner)
        batch_losses.append(objective(next(batches(images, 8)), images, 0))
    assert (batch_losses[1] > batch_losses[0]).all()


def needles(split):
    """Pictures whose digits are textures, one for each class."""
    coarse = np.random.default_rng(0).integers(0, 2, (10, 1, 7, 7)) * 155 + 100
    digits = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, 0].astype(np.uint8)
    return MegapixelMNIST(digits, np.arange(10), side=300, images=192, noise=8, split=split)


def test_needles_are_found_without_being_shown(tmp_path):
    sets = {name: needles(number) for number, name in enumerate(("train", "val", "test"))}
    config = ClassifierConfig.of(
        run=tmp_path,
        **NETWORK | {"patch_size": 36, "glance_size": 80, "focus_steps": 4},
        encoder="compact:widths=[8,16,32],strides=[2,2,1],mean=[0,0,0]",
        windows="mined",
        epochs=10,
        batch_size=16,
        learning_rate=4e-3,
        encoder_loss=5.0,
    )
    network = train_classifier(config, sets)
    heat, random = (
        evaluate_policy(network, policy, sets["test"]) for policy in (HeatPolicy(), RandomPolicy())
    )
    assert heat.accuracy[-1] > 0.5 > 2 * random.accuracy[-1]
    # A network that knows where to look is complete without a learned policy.
    gfnet = EarlyExitGFNet.load(tmp_path)
    assert isinstance(gfnet.policy, HeatPolicy)
    assert gfnet.budgets is not None


def test_what_speaks_for_the_class_at_the_glance_is_proposed():
    feature_map = torch.rand(2, 2, 6, 8)
    feature_map[0, 0, 1, 5] = feature_map[1, 1, 4, 2] = 9.0
    feature_map.requires_grad_()
    # Each channel's maximum is the evidence for one class.
    logits = feature_map.amax(dim=(2, 3))
    found = _activation(logits, feature_map, torch.tensor([0, 1]))
    assert found.shape == (2, 1, 6, 8)
    assert found.flatten(1).argmax(dim=1)[1] in around(4, 2)
    assert found.flatten(1).argmax(dim=1)[0] in around(1, 5)
    assert _activation(logits, feature_map.detach(), torch.tensor([0, 1])) is None


def around(row, column):
    """The numbers of a cell and its neighbours in a map of 6×8."""
    return [8 * (row + down) + column + right for down in (-1, 0, 1) for right in (-1, 0, 1)]
