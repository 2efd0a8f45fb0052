import numpy as np
import pytest
import torch

from gfnet_env import ArrayImages, GlanceFocusNetwork
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.looks import Look, lattice
from gfnet_env.policies import POLICIES, RandomPolicy, ScanPolicy
from gfnet_env.policies.scan import OVERLAP


def network(**options):
    torch.manual_seed(0)
    parts = {"encoder": "compact", "classifier": "evidence", "where_scales": (1.0,)} | options
    return GlanceFocusNetwork.build(patch_size=16, num_classes=5, focus_steps=3, **parts).eval()


@pytest.fixture
def images():
    """Six pictures of 4×6 windows, of which two are not black."""
    pixels = np.zeros((6, 3, 64, 96), dtype=np.uint8)
    pixels[:, :, 5:12, 20:30] = 200
    pixels[:, :, 50:60, 70:75] = np.arange(40, 240, 40)[:, None, None, None].repeat(2, 0)[:6]
    return ArrayImages(pixels, np.arange(6) % 5)


def test_the_best_of_all_windows_are_looked_at(images):
    model = network()
    record = evaluate_policy(model, ScanPolicy(), images)
    assert record.looks.tolist() == [3] * 6
    # And once more when they are looked at.
    assert record.windows == 24 + 3
    with torch.no_grad():
        axes = torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 6)
        places = torch.cartesian_prod(*axes)
        vector = LiveFeatures(model, images).window(np.zeros(24, dtype=int), Look.at(places)).vector
        scores = model.where.score(model.window_logits(vector, Look.at(places)))
    best = places[scores.topk(3).indices]
    assert torch.equal(torch.from_numpy(record.locations[0, 0]), best[0])
    found = {tuple(place) for place in record.locations[0].tolist()}
    assert {scores[(places == torch.tensor(each)).all(dim=1)].item() for each in found} == {
        *scores.topk(3).values.tolist()
    }


def test_empty_windows_are_left_out_and_looking_ends_where_none_is_left(images):
    record = evaluate_policy(network(), POLICIES.build("scan:skip_empty=true"), images)
    assert record.looks.tolist() == [2] * 6
    assert record.windows == 2 + 2
    # An encoded window that is empty says nothing here; none is looked at.
    assert np.isnan(record.locations[:, 2]).all()


def test_a_smaller_stride_sees_more(images):
    record = evaluate_policy(network(), ScanPolicy(stride=0.5), images)
    assert record.windows == 7 * 11 + 3


def test_no_look_shows_what_another_has_shown(images):
    record = evaluate_policy(network(), ScanPolicy(stride=0.25), images)
    corners = (record.locations + 1) / 2 * (np.array([64, 96]) - 16)
    apart = np.abs(corners[:, :, None] - corners[:, None])
    shared = (16 - apart).clip(min=0).prod(axis=3)
    overlap = shared / (2 * 16**2 - shared)
    overlap[:, np.arange(3), np.arange(3)] = 0
    assert 0 < overlap.max() <= OVERLAP


def test_windows_are_counted_for_every_policy(images):
    assert evaluate_policy(network(), RandomPolicy(), images).windows == 3
    oracle = evaluate_policy(network(), POLICIES.build("oracle:cells=2"), images)
    assert oracle.windows == len(lattice(2)) + 3


def test_what_scan_needs_is_named(images):
    with pytest.raises(ValueError, match=r"stride must be in \(0, 1\], not 0"):
        ScanPolicy(stride=0)
    with pytest.raises(ValueError, match=r"0.016 pixels apart, .* the least is 0.062"):
        evaluate_policy(network(), ScanPolicy(stride=1e-3), images)
    with pytest.raises(ValueError, match="'scan' needs a network that knows what a window is"):
        evaluate_policy(network(where_scales=()), ScanPolicy(), images)
