import numpy as np
import pytest
import torch

from gfnet_env import rows
from gfnet_env.features import LiveFeatures
from gfnet_env.looks import Look
from gfnet_env.rollout import glance, look


def looks(count, seed=0):
    rng = np.random.default_rng(seed)
    location = torch.from_numpy(rng.uniform(-1, 1, (count, 2)).astype(np.float32))
    return Look.at(location, torch.from_numpy(rng.uniform(1, 3, count).astype(np.float32)))


def test_features_are_what_the_model_encodes(tiny_network, tiny_images):
    features, indices, where = (
        LiveFeatures(tiny_network, tiny_images),
        np.array([7, 2, 2]),
        looks(3),
    )
    overviews = tiny_images.overview(indices, tiny_network.view)
    windows = tiny_images.window(indices, where, tiny_network.view)
    for found, expected in (
        (features.overview(indices), tiny_network.encode_overview(overviews)),
        (features.window(indices, where), tiny_network.encode_window(windows)),
    ):
        assert torch.equal(found.map, expected.map)
        assert torch.equal(found.vector, expected.vector)
    assert features.snap(where) is where


def test_many_pixels_are_encoded_in_parts_unless_there_are_gradients(
    tiny_network, tiny_images, monkeypatch
):
    indices, where = np.arange(12), looks(12)
    features = LiveFeatures(tiny_network, tiny_images)
    expected = features.window(indices, where)
    monkeypatch.setattr("gfnet_env.features.live._PIXELS", 5 * 16**2)
    sizes = []
    tiny_network.local_encoder.register_forward_hook(
        lambda module, given, made: sizes.append(len(given[0]))
    )
    features.window(indices, where)
    with torch.no_grad():
        found = features.window(indices, where)
    assert sizes == [12, 5, 5, 2]
    torch.testing.assert_close(found.map, expected.map)
    torch.testing.assert_close(found.vector, expected.vector)


def test_gradients_and_a_callers_autocast_go_through(tiny_network, tiny_images):
    features = LiveFeatures(tiny_network.train(), tiny_images)
    with torch.autocast("cpu", torch.bfloat16):
        found = features.window(np.arange(4), looks(4))
    assert found.vector.dtype == torch.bfloat16
    found.vector.sum().backward()
    assert any(each.grad.any() for each in tiny_network.local_encoder.parameters())
    assert all(each.grad is None for each in tiny_network.global_encoder.parameters())


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"keep_glances": True}])
def test_a_model_in_training_mode_is_refused(tiny_network, tiny_images, options):
    with pytest.raises(ValueError, match="from a model in evaluation mode; call its eval"):
        LiveFeatures(tiny_network.train(), tiny_images, **options)


def test_an_unknown_precision_is_named(tiny_network, tiny_images):
    with pytest.raises(ValueError, match="unknown precision 'int4'; known: float32, bfloat16"):
        LiveFeatures(tiny_network, tiny_images, precision="int4")


@pytest.mark.parametrize("keep_glances", [False, True])
def test_bfloat16_rounds_and_gives_float32(tiny_network, tiny_images, keep_glances):
    indices, where = np.arange(12), looks(12)
    exact = LiveFeatures(tiny_network, tiny_images)
    rounded = LiveFeatures(
        tiny_network, tiny_images, precision="bfloat16", keep_glances=keep_glances
    )
    for _ in range(2):
        for found, expected in (
            (rounded.overview(indices), exact.overview(indices)),
            (rounded.window(indices, where), exact.window(indices, where)),
        ):
            for one, other in zip(found, expected, strict=True):
                assert one.dtype == torch.float32
                assert torch.equal(one, one.bfloat16().float())
                assert not torch.equal(one, other)
                torch.testing.assert_close(one, other, atol=0.1, rtol=0.1)


def test_kept_glances_are_encoded_once(tiny_network, tiny_images):
    encoded = []
    tiny_network.global_encoder.register_forward_hook(
        lambda module, inputs, output: encoded.append(len(output.vector))
    )
    features = LiveFeatures(tiny_network, tiny_images, keep_glances=True)
    exact = LiveFeatures(tiny_network, tiny_images)
    for indices in ([7, 2, 2], [2], [3, 7, 0], [0, 3, 7, 2]):
        before = sum(encoded)
        found = features.overview(np.array(indices))
        new = sum(encoded) - before
        torch.testing.assert_close(found.vector, exact.overview(np.array(indices)).vector)
        assert new == {7: 16, 2: 0, 3: 16, 0: 0}[indices[0]]
    other = LiveFeatures(tiny_network, tiny_images, keep_glances=True)
    everything = np.arange(len(tiny_images))
    assert torch.equal(
        other.overview(everything).vector[[3, 7]], features.overview(np.array([3, 7])).vector
    )


def test_kept_glances_can_be_begun_in_inference_mode(tiny_network, tiny_images):
    features = LiveFeatures(tiny_network, tiny_images, keep_glances=True)
    with torch.inference_mode():
        one = features.overview(np.array([7, 2]))
    other = features.overview(np.array([2, 3, 7]))
    assert other.vector[[2, 0]].equal(one.vector)


def test_any_model_sees_pictures_of_mixed_sizes(token_model, mixed_images, same):
    indices, where = np.array([5, 0, 3, 3, 1]), looks(5)
    exact = LiveFeatures(token_model, mixed_images)
    kept = LiveFeatures(token_model, mixed_images, keep_glances=True)
    with torch.no_grad():
        for features in (exact, kept, kept):
            state = glance(features, indices)
            after = look(features, indices, where, state)
            same(state, glance(exact, indices))
            same(after, look(exact, indices, where, state))
            same(rows.select(after, torch.tensor([1])), after_alone(exact, indices[[1]], where))


def after_alone(features, indices, where):
    """The second look as the only one."""
    return look(features, indices, rows.select(where, torch.tensor([1])), glance(features, indices))
