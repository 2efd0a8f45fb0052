"""Cached features of looks at several scales, of pictures of mixed sizes, and of any model."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from gfnet_env.features import LiveFeatures
from gfnet_env.looks import Look, lattice
from gfnet_env.rollout import glance, look

SCALES = (1.0, 2.0, 3.5)
LATTICE = lattice(3)


@pytest.fixture(params=["token_model", "tiny_network"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["images", "mixed_images"])
def images_of_any_size(request):
    return request.getfixturevalue(request.param)


def all_looks(count):
    """Every look of the lattice at each of some images: the looks, and the image of each."""
    places = torch.cartesian_prod(torch.arange(len(SCALES)), torch.arange(len(LATTICE)))
    scale, cell = places.repeat(count, 1).unbind(dim=1)
    looks = Look.at(LATTICE[cell], torch.tensor(SCALES)[scale])
    return looks, np.arange(count).repeat(len(places))


def played(features, looks, indices):
    """What is known after a glance, and after a look."""
    with torch.no_grad():
        state = glance(features, indices)
        return [state, look(features, indices, looks, state)]


def test_at_the_lattice_looks_show_what_they_show_live(model, images_of_any_size, cached, same):
    images = images_of_any_size
    looks, indices = all_looks(len(images))
    live = played(LiveFeatures(model, images), looks, indices)
    for _ in range(2):
        features = cached(model, images, scales=SCALES)
        before = images.read
        same(played(features, looks, indices), live)
    # The store was full the second time.
    assert images.read == before
    assert features.store.count == len(images) * features.views == len(images) * (1 + 3 * 9)


def test_filling_is_for_any_model(model, mixed_images, cached, same):
    features = cached(model, mixed_images, scales=SCALES)
    features.fill(np.array([4, 1]), batch_size=7)
    there = features.store.read(np.arange(features.store.count))[1].reshape(-1, features.views)
    assert np.flatnonzero(there.all(axis=1)).tolist() == [1, 4]
    assert np.flatnonzero(there.any(axis=1)).tolist() == [1, 4]
    features.fill(np.arange(6))
    looks, indices = all_looks(6)
    before = mixed_images.read
    found = played(features, looks, indices)
    assert mixed_images.read == before
    same(found, played(LiveFeatures(model, mixed_images), looks, indices))


def test_looks_snap_to_the_nearest_location_and_scale(token_model, images, cached, same):
    features = cached(token_model, images, scales=(3.5, 1, 2, 2.0))
    assert features.scales == SCALES
    scales = [1.0, 1.41, 1.42, 2.64, 2.65, 50.0]
    locations = torch.tensor([[-0.6, 0.4]]).expand(6, 2)
    stop = torch.tensor([False, True] * 3)
    looks = Look.at(locations, torch.tensor(scales), stop)
    snapped = features.snap(looks)
    assert snapped.scale.tolist() == [1, 1, 2, 2, 3.5, 3.5]
    assert snapped.location.tolist() == [[-1, 0]] * 6
    assert torch.equal(snapped.stop, stop)
    # Between two steps of the lattice features are those of the nearest look.
    same(features.window(np.arange(6), looks), features.window(np.arange(6), snapped), 0)


def test_looks_outside_a_picture_are_refused(token_model, images, cached):
    features = cached(token_model, images)
    with pytest.raises(ValueError, match=r"locations must lie in \[-1, 1\]; one is 1\.5"):
        features.window(np.arange(1), Look.at(torch.tensor([[0, 1.5]])))
    with pytest.raises(ValueError, match="scales must be at least 1"):
        features.window(np.arange(1), Look.at(torch.zeros(1, 2), torch.full((1,), 0.5)))
    for index in (-1, 12):
        with pytest.raises(IndexError):
            features.overview(np.array([index]))


def test_a_callers_autocast_does_not_reach_the_store(tiny_network, images, cached):
    indices = np.arange(12)
    expected = LiveFeatures(tiny_network, images, keep_glances=True)
    features = cached(tiny_network, images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = [features.overview(indices), expected.overview(indices)]
    with torch.no_grad():
        exact = LiveFeatures(tiny_network, images).overview(indices)
    for each in found:
        torch.testing.assert_close(each.vector, exact.vector)


@pytest.mark.parametrize("scales", [(), (0.5,), (1.0, float("nan")), (float("inf"),)])
def test_wrong_scales_are_named(token_model, images, cached, scales):
    with pytest.raises(ValueError, match="scales must be finite and at least 1, not"):
        cached(token_model, images, scales=scales)


def test_bfloat16_is_rounded_once_and_other_types_are_kept(token_model, mixed_images, cached):
    indices = np.arange(6)
    live = LiveFeatures(token_model, mixed_images, precision="bfloat16").overview(indices)
    assert live["brightest"].dtype == torch.int64
    for _ in range(2):
        found = cached(token_model, mixed_images, precision="bfloat16").overview(indices)
        assert found["tokens"].dtype == torch.float32
        torch.testing.assert_close(found["tokens"], live["tokens"], atol=2**-6, rtol=2**-7)
        assert torch.equal(found["tokens"], found["tokens"].bfloat16().float())
        assert torch.equal(found["brightest"], live["brightest"])


def test_a_model_says_what_its_features_depend_on(token_model, mixed_images, cached):
    def folder(model, images=mixed_images, **options):
        return cached(model, images, **options).store.folder

    def other(change):
        model = copy.deepcopy(token_model)
        with torch.no_grad():
            change(model)
        return model

    before = folder(token_model)
    assert folder(other(lambda model: model.head.weight.mul_(2))) == before
    assert folder(token_model, scales=(1.0, 1)) == before
    others = [
        folder(other(lambda model: model.embed.weight.mul_(2))),
        folder(other(lambda model: model.__dict__.update(encoder_modules=("embed", "head")))),
        folder(other(lambda model: model.__dict__.update(view=wider(model.view)))),
        folder(token_model, scales=(1.0, 2.0)),
        folder(token_model, scales=(2.0,)),
        folder(token_model, cells=4),
    ]
    assert len({before, *others}) == 1 + len(others)


def wider(view):
    return dataclasses.replace(view, aspect="stretch")


def test_all_of_a_model_that_says_nothing_counts(token_model, images, cached, monkeypatch):
    monkeypatch.delattr(type(token_model), "encoder_modules")
    before = cached(token_model, images).store.folder
    with torch.no_grad():
        token_model.head.weight.mul_(2)
    assert cached(token_model, images).store.folder != before


def test_a_model_without_weights_is_not_cached(token_model, images, cached):
    class Wrapper:
        def __getattr__(self, name):
            return getattr(token_model, name)

    with pytest.raises(ValueError, match="Wrapper cannot be cached: its weights are not known"):
        cached(Wrapper(), images)
