import copy
import dataclasses
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import gfnet_env
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.features import (
    CachedFeatures,
    CacheOptions,
    FeatureOptions,
    LiveFeatures,
    build_features,
)
from gfnet_env.features.filling import CacheConfig, cache_features
from gfnet_env.features.layout import Layout
from gfnet_env.images import FolderImages, Subset
from gfnet_env.looks import Look, lattice
from gfnet_env.rollout import glance, look

CELLS = 3
# What sums may differ by where an encoder is given another number of views at once.
TOLERANCE = 1e-5


@pytest.fixture
def environment(tiny_network, images):
    def make(features, **arguments):
        values = {"model": tiny_network, "images": images, "autoreset_mode": "SameStep"}
        return GlanceFocusVectorEnv(5, features=features, **values | arguments)

    return make


def play(env, steps=9, seed=3, locations=None):
    """All that an environment shows in some steps at random locations of the lattice."""
    locations = lattice(CELLS).numpy() if locations is None else locations
    rng = np.random.default_rng(seed)
    shown = [env.reset(seed=seed)]
    chosen = rng.integers(len(locations), size=(steps, env.num_envs))
    return shown + [env.step(locations[cells]) for cells in chosen]


def test_at_the_lattice_episodes_are_those_of_live_features(environment, cached, same):
    live = play(environment("live"))
    # An empty store, and then a full one.
    for _ in range(2):
        same(play(environment(cached)), live)
    assert all(shown[2].all() or not shown[2].any() for shown in live[1:])


def test_episodes_that_end_early_are_those_of_live_features(environment, cached, same):
    confidence = np.unique([shown[4]["confidence"] for shown in play(environment("live"))[1:]])
    middle = len(confidence) // 2
    # Between two of them, so that rounding decides nothing.
    exits = f"confidence:threshold={confidence[middle - 1 : middle + 1].mean()}"
    live = play(environment("live", exits=exits))
    for _ in range(2):
        same(play(environment(cached, exits=exits)), live)
    assert any(0 < shown[2].sum() < 5 for shown in live[1:])


def test_the_single_environment_takes_cached_features(tiny_network, images, cached, same):
    def episode(features):
        env = GlanceFocusEnv(model=tiny_network, images=images, features=features)
        return [env.reset(seed=0), env.step(np.ones(2)), env.step(np.array([0, -1.0]))]

    same(
        [list(part) for part in episode(cached)],
        [list(part) for part in episode("live")],
    )


def test_locations_are_taken_to_the_nearest_cell(environment, cached, same):
    between = np.array([[-0.7, 0.3], [0.8, 1.0], [0.45, -0.55]], dtype=np.float32)
    nearest = np.array([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.0]], dtype=np.float32)
    env = environment(cached, render_mode="rgb_array")
    same(play(env, locations=between), play(environment("live"), locations=nearest))
    live = environment("live", render_mode="rgb_array")
    play(live, locations=nearest)
    same(env.render(), live.render())


def test_what_is_in_the_store_needs_no_pixel_and_no_encoder(environment, cached, images):
    play(environment(cached))
    env = environment(cached)

    def called(*_):
        raise AssertionError("an encoder was called")

    env.model.global_encoder.register_forward_hook(called)
    env.model.local_encoder.register_forward_hook(called)
    before = images.read
    play(env)
    assert images.read == before


def test_processes_with_the_same_features_share_a_store(environment, cached, same):
    first, second = environment(cached), environment(cached)
    play(first)
    assert first.features.store.folder == second.features.store.folder
    before = second.features.store.bytes_on_disk
    same(play(second), play(first), 0)
    assert second.features.store.bytes_on_disk == before > 0


def test_the_classifier_is_as_it_is(environment, cached, tiny_network, same):
    before = environment(cached)
    play(before)
    with torch.no_grad():
        for parameter in tiny_network.classifier.parameters():
            parameter.mul_(1.5)
    after = environment(cached)
    assert after.features.store.folder == before.features.store.folder
    same(play(after), play(environment("live")))


def folder_of(features):
    return features.store.folder


def test_what_features_depend_on_makes_another_store(tiny_network, tiny_images, cached):
    folder = folder_of(cached(tiny_network, tiny_images))
    assert folder_of(cached(copy.deepcopy(tiny_network), tiny_images)) == folder

    def changed_weight(name):
        network = copy.deepcopy(tiny_network)
        with torch.no_grad():
            next(network.get_submodule(name).parameters())[0] += 1e-3
        return network

    def other_view(**changes):
        network = copy.deepcopy(tiny_network)
        network.view = dataclasses.replace(network.view, **changes)
        return network

    pixels = tiny_images[:].clone()
    pixels[3, 1, 5, 7] ^= 1
    others = [
        cached(changed_weight("global_encoder"), tiny_images),
        cached(changed_weight("local_encoder"), tiny_images),
        cached(other_view(interpolation="bicubic"), tiny_images),
        cached(other_view(antialias=False), tiny_images),
        cached(other_view(rounding="floor"), tiny_images),
        cached(tiny_network, gfnet_env.ArrayImages(pixels, tiny_images.labels)),
        cached(tiny_network, Subset(tiny_images, np.arange(11))),
        cached(tiny_network, gfnet_env.ArrayImages(tiny_images[:][..., :20], tiny_images.labels)),
        cached(tiny_network, tiny_images, cells=4),
        cached(tiny_network, tiny_images, precision="bfloat16"),
    ]
    assert len({folder, *map(folder_of, others)}) == 1 + len(others)


def test_a_store_of_other_features_is_named(tiny_network, tiny_images, cached):
    store = folder_of(cached(tiny_network, tiny_images))
    assert folder_of(cached(tiny_network, tiny_images, folder=store)) == store
    other = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, focus_steps=2
    )
    with pytest.raises(ValueError, match="from a model in evaluation mode"):
        cached(other, tiny_images, folder=store)
    other.eval()
    with pytest.raises(ValueError, match="another kind: their encoder weights is '.*', not '.*'"):
        cached(other, tiny_images, folder=store)


def test_a_size_over_the_limit_is_named_before_it_is_taken(tiny_network, tiny_images, tmp_path):
    limited = partial(CachedFeatures, folder=tmp_path / "features", cells=90, limit_gib=0.25)
    message = r"12 images at 90×90 locations may take 0\.\d+ GiB, over the limit of 0.25 GiB"
    with pytest.raises(ValueError, match=message):
        limited(tiny_network, tiny_images)
    assert not (tmp_path / "features").exists()


def test_a_new_store_says_what_it_may_take(tiny_network, tiny_images, cached, capsys):
    features = cached(tiny_network, tiny_images)
    said = capsys.readouterr().out.strip()
    assert said == features.summary()
    assert "12 images at 3×3 locations, float32; 0.00 GiB of at most" in said
    cached(tiny_network, tiny_images)
    assert capsys.readouterr().out == ""


def test_bfloat16_is_the_same_live_and_cached(environment, cached, same):
    float32 = play(environment("live"))
    live = play(environment(partial(LiveFeatures, precision="bfloat16")))
    # A sum that falls on the other side of a rounding differs by a whole unit of it.
    unit = 2**-7

    def maps(shown):
        return [each[0]["features"] for each in shown]

    for _ in range(2):
        found = play(environment(partial(cached, precision="bfloat16")))
        same(maps(found), maps(live), 2 * unit)
    same(maps(live), maps(float32), 10 * unit)
    assert (maps(live)[0] != maps(float32)[0]).any()


def test_kept_glances_are_those_of_live_features(environment, tiny_network, same):
    glances = []
    tiny_network.global_encoder.register_forward_hook(
        lambda module, inputs, output: glances.append(len(output.vector))
    )
    live = play(environment("live"), steps=14)
    env = environment(partial(LiveFeatures, keep_glances=True))
    glances.clear()
    same(play(env, steps=14), live)
    indices = [live[0][1]["index"], *(shown[4]["index"] for shown in live[1:])]
    # The last bits of features depend on the size of a batch.
    assert set(glances) == {16}
    before = len(glances)
    assert before <= len(np.unique(indices))
    env.features.overview(np.unique(indices))
    assert len(glances) == before


@pytest.mark.parametrize("keep_glances", [False, True])
def test_images_come_in_any_order(tiny_network, tiny_images, cached, keep_glances):
    indices, looks = np.array([7, 2, 2]), Look.at(lattice(CELLS)[:3])
    sources = [partial(LiveFeatures, keep_glances=keep_glances), cached, cached]
    with torch.no_grad():
        exact = LiveFeatures(tiny_network, tiny_images)
        begun = glance(exact, indices)
        after = look(exact, indices, looks, begun)
        for source in sources:
            features = source(tiny_network, tiny_images)
            torch.testing.assert_close(glance(features, indices).logits, begun.logits)
            found = look(features, indices, looks, begun)
            torch.testing.assert_close(found.logits, after.logits)


def test_doubtful_images_are_found_by_any_features(environment, cached, same):
    live = environment("live", sampling="uncertain-full")
    expected = play(live)
    for features in (cached, cached, partial(LiveFeatures, keep_glances=True)):
        env = environment(features, sampling="uncertain-full")
        same(play(env), expected)
        doubts = [each.state_dict()["doubt"]["doubts"] for each in (env, live)]
        torch.testing.assert_close(*doubts, atol=TOLERANCE, rtol=0)


def test_an_environment_goes_on_where_its_state_was_saved(environment, cached, same):
    env = environment(cached)
    play(env, steps=3)
    state = env.state_dict()
    following = env.step(np.zeros((5, 2)))
    other = environment(cached)
    other.load_state_dict(state)
    same(other.step(np.zeros((5, 2))), following)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_nothing_that_an_environment_changes_names_an_entry(mode, tiny_network, tiny_images):
    """Or a second thread could have features stored for other images than they are of."""
    features = LiveFeatures(tiny_network, tiny_images)
    env = GlanceFocusVectorEnv(
        3, model=tiny_network, images=tiny_images, features=features, autoreset_mode=mode
    )
    overview, window, given = features.overview, features.window, []

    def note(look, indices, *looks):
        given.append(indices)
        return look(indices, *looks)

    features.overview = partial(note, overview)
    features.window = partial(note, window)
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
    assert len(given) >= 5
    assert not any(np.shares_memory(indices, env._indices) for indices in given)


def test_copies_of_an_environment_share_the_store(environment, cached, same):
    env = environment(cached)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    same(env.step(np.zeros((5, 2))), twin.step(np.zeros((5, 2))))


def test_filling_leaves_nothing_to_compute(
    tiny_network, images, tmp_path, environment, cached, same
):
    options = CacheOptions(cells=CELLS, cache=tmp_path / "features")
    config = CacheConfig(cache=options, batch_size=7)
    some = cached(tiny_network, images)
    some.fill(np.array([4, 1]))
    filled = cache_features(config, model=tiny_network, images=images)
    numbers = np.arange(filled.store.count)
    entries, there = filled.store.read(numbers)
    assert len(numbers) == 12 * (1 + CELLS**2)
    assert there.all()
    before = images.read
    images.digest()
    for_the_digest = images.read - before
    again = cache_features(config, model=tiny_network, images=images)
    assert images.read - before == 2 * for_the_digest
    np.testing.assert_array_equal(again.store.read(numbers)[0], entries)
    same(play(environment(cached)), play(environment("live")))


def test_a_picture_that_changes_is_another_and_one_that_moves_is_not(tmp_path):
    def picture(path, value):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), value, dtype=np.uint8)).save(path)
        return path

    def digest(folder, **changes):
        files = [folder / "a" / "0.png", folder / "b" / "0.png"]
        return FolderImages(files, [0, 1], ("a", "b"), image_size=16, **changes).digest()

    for name in ("a", "b"):
        picture(tmp_path / "here" / name / "0.png", 7)
    before = digest(tmp_path / "here")
    assert digest(tmp_path / "here", workers=0, memory_limit=0) == before
    (tmp_path / "here").rename(tmp_path / "there")
    assert digest(tmp_path / "there") == before
    picture(tmp_path / "there" / "b" / "0.png", 8)
    assert digest(tmp_path / "there") != before


def test_scenes_are_known_by_what_they_are_made_of():
    def digest(spec="cluttered-digits:scenes=20", split="test", seed=0):
        return gfnet_env.load_images(spec, split, seed=seed).digest()

    assert digest() == digest()
    others = [
        digest(split="val"),
        digest(seed=1),
        digest(spec="cluttered-digits:scenes=21"),
        digest(spec="cluttered-digits:scenes=20,pieces=3"),
    ]
    assert len({digest(), *others}) == 5


def test_features_go_by_name(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    for name in ("live", "cached", "cached:cells=3,folder=here"):
        env = gym.make_vec("gfnet_env/GlanceFocus-v0", num_envs=2, images=digits, features=name)
        env.reset(seed=0)
        env.close()
    assert (tmp_path / "runs" / "features").is_dir()
    assert (tmp_path / "here").is_dir()
    message = "unknown source of features 'psychic'; known: live.*cached"
    with pytest.raises(ValueError, match=message):
        GlanceFocusVectorEnv(2, images=digits, features="psychic")


def test_features_are_a_spec_or_a_callable_or_an_object(tiny_network, images, cached):
    built = build_features("live:precision=bfloat16", tiny_network, images)
    assert isinstance(built, LiveFeatures)
    assert built.precision == "bfloat16"
    assert isinstance(build_features(cached, tiny_network, images), CachedFeatures)
    assert build_features(built, tiny_network, images) is built
    own = build_features("gfnet_env.features.live:LiveFeatures", tiny_network, images)
    assert own.images is images
    with pytest.raises(
        ValueError, match="cells of 'cached:cells=many' must be a whole number, not 'many'"
    ):
        build_features("cached:cells=many", tiny_network, images)


def test_options_make_what_they_name(tiny_network, images, tmp_path):
    live = FeatureOptions().source()(tiny_network, images)
    assert isinstance(live, LiveFeatures)
    options = FeatureOptions(
        features="cached", cells=2, scales=(2, 1), cache=str(tmp_path), precision="bfloat16"
    )
    features = options.source()(tiny_network, images)
    assert isinstance(features, CachedFeatures)
    assert (features.cells, features.scales, features.precision) == (2, (1.0, 2.0), "bfloat16")
    assert features.store.folder.parent == tmp_path


def test_glances_are_kept_if_they_fit(tiny_network, images):
    bytes_of_one = Layout.of_overviews(tiny_network, "float32").bytes
    everything = len(images) * bytes_of_one / 2**30
    for limit, encoded in ((everything, 0), (0.9 * everything, 3), (0.0, 3)):
        features = FeatureOptions(glance_gib=limit).source()(tiny_network, images)
        features.overview(np.arange(3))
        features.overviews = None
        features.overview(np.arange(3))
        assert (0 if features.overviews is None else len(features.overviews)) == encoded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": 0}, "cells must be at least 1, not 0"),
        ({"scales": (1.0, 0.5)}, "scales.* must be at least 1, not 0.5"),
        ({"cache_gib": 0.0}, "cache_gib must be positive"),
        ({"precision": "int4"}, "precision must be float32 or bfloat16, not 'int4'"),
        ({"features": "psychic"}, "features must be live or cached, not 'psychic'"),
        ({"glance_gib": -1.0}, "glance_gib must be at least 0, not -1.0"),
    ],
)
def test_wrong_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureOptions(**change)
