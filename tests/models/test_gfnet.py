import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork, Look, rollout, rows
from gfnet_env.digest import weights_digest
from gfnet_env.features import LiveFeatures
from gfnet_env.models import TrainingData, blank_state
from gfnet_env.policies import RandomPolicy


def build(**config):
    torch.manual_seed(0)
    defaults = {"encoder": "compact", "patch_size": 16, "num_classes": 5}
    return GlanceFocusNetwork.build(**defaults | config).eval()


@torch.no_grad()
def glance(network, images, indices=None):
    indices = np.arange(len(images)) if indices is None else indices
    return rollout.glance(LiveFeatures(network, images), indices)


@torch.no_grad()
def look(network, images, locations, state, indices=None):
    indices = np.arange(len(images)) if indices is None else indices
    return rollout.look(LiveFeatures(network, images), indices, Look.at(locations), state)


@pytest.fixture
def cascade():
    return build(focus_steps=2, classifier="cascade")


def test_shapes_of_a_glance_and_a_look(tiny_network, tiny_images):
    first = glance(tiny_network, tiny_images)
    second = look(tiny_network, tiny_images, torch.zeros(12, 2), first)
    for state, number in ((first, 0), (second, 1)):
        assert state.feature_map.shape == (12, *tiny_network.feature_shape)
        assert state.memory.shape == (12, tiny_network.memory_size)
        assert state.logits.shape == (12, 5)
        assert state.number.tolist() == [number] * 12
        assert state.size.tolist() == [[24, 32]] * 12
        assert torch.allclose(state.probabilities.sum(dim=1), torch.ones(12))
        assert torch.equal(state.confidence, state.probabilities.max(dim=1).values)
    assert torch.equal(second.glance_map, first.feature_map)


def test_a_look_sees_the_pixels_of_its_window_and_no_others(tiny_network, tiny_images):
    pixels = tiny_images[[0]]
    outside, inside = pixels.clone(), pixels.clone()
    outside[:, :, 16:], outside[:, :, :, 16:] = 0, 0
    inside[:, :, 5, 5] = 255 - inside[:, :, 5, 5]
    first, corner = glance(tiny_network, ArrayImages(pixels)), torch.tensor([[-1.0, -1.0]])
    seen, again, other = (
        look(tiny_network, ArrayImages(each), corner, first).logits
        for each in (pixels, outside, inside)
    )
    assert torch.equal(seen, again)
    assert not torch.equal(seen, other)


@pytest.mark.parametrize("fixture", ["tiny_network", "cascade"])
def test_rows_at_different_steps_share_a_batch(request, fixture, tiny_images):
    network = request.getfixturevalue(fixture)
    locations = torch.rand(12, 2) * 2 - 1
    start = glance(network, tiny_images)
    first = look(network, tiny_images, locations, start)
    some, others = torch.arange(0, 12, 2), torch.arange(1, 12, 2)
    mixed = rows.put(start, some, rows.select(first, some))
    after = look(network, tiny_images, locations, mixed)
    second = look(network, tiny_images, locations, first)
    assert after.number.tolist() == [2, 1] * 6
    torch.testing.assert_close(after.logits[some], second.logits[some])
    torch.testing.assert_close(after.logits[others], first.logits[others])


def test_what_is_seen_of_a_cell_is_the_most_that_one_window_has_covered():
    network = build(focus_steps=2)
    # Its map has 4×4 cells, of 16 pixels each.
    images = ArrayImages(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    state = glance(network, images)
    assert state.seen.tolist() == [[[0] * 4] * 4]
    for row, first_column in ((8, [0.5, 0.5, 0, 0]), (24, [0.5, 0.5, 0.5, 0])):
        state = look(network, images, torch.tensor([[row / 24 - 1, -1]]), state)
        assert state.seen[0, :, 0].tolist() == first_column
        assert (state.seen[0, :, 1:] == 0).all()


def test_a_zoomed_look_covers_more(tiny_network, tiny_images):
    features, start = LiveFeatures(tiny_network, tiny_images), glance(tiny_network, tiny_images)
    looks = Look.at(torch.zeros(12, 2), torch.full((12,), 4.0))
    with torch.no_grad():
        state = rollout.look(features, np.arange(12), looks, start)
    assert (state.seen == 1).all()
    assert state.scale.tolist() == [4] * 12
    # The whole picture, as at the glance, which the other encoder sees.
    views = tiny_images.overview(slice(None), tiny_network.view)
    with torch.no_grad():
        assert torch.equal(tiny_network.encode_window(views).map, state.feature_map)


def test_a_network_can_be_pickled(tiny_network, tiny_images):
    other = pickle.loads(pickle.dumps(tiny_network))
    before = glance(tiny_network, tiny_images).logits
    assert torch.equal(glance(other, tiny_images).logits, before)


def test_a_state_may_be_of_some_images(tiny_network, tiny_images):
    chosen, locations = torch.tensor([7, 2]), torch.tensor([[0.3, -0.4], [-1.0, 1.0]])
    start = glance(tiny_network, tiny_images)
    some = look(tiny_network, tiny_images, locations, rows.select(start, chosen), chosen.numpy())
    copied = ArrayImages(tiny_images[chosen])
    alone = look(tiny_network, copied, locations, rows.select(start, chosen))
    assert torch.equal(some.logits, alone.logits)
    with pytest.raises(ValueError, match="12 images were given 2 looks"):
        look(tiny_network, tiny_images, locations, start)


def test_the_probabilities_of_a_state_are_computed_once(tiny_network):
    state = blank_state(tiny_network, 2)
    assert torch.equal(state.probabilities, state.logits.softmax(dim=1))
    assert state.probabilities is state.probabilities


def test_the_glance_may_be_judged_by_the_encoders_own_head(cascade, tiny_images):
    own_head = build(memory_size=24, glance_logits="encoder")
    assert own_head.memory_size == 24
    for network in (cascade, own_head):
        state = glance(network, tiny_images)
        with torch.no_grad():
            assert torch.equal(state.logits, network.global_encoder.head(state.vector))
        assert state.memory.any()
        assert network.own_logits(state) is None


@pytest.mark.parametrize("align_corners", [True, False])
def test_normalised_images_are_taken_as_they_are(align_corners, tiny_images):
    network = build(antialias=False, align_corners=align_corners, interpolation="bicubic")
    pixels, encoder = tiny_images[:], network.global_encoder
    normalised = ArrayImages((pixels - encoder.mean) / encoder.std, normalised=True)
    locations = torch.rand(12, 2) * 2 - 1
    state, floats = glance(network, tiny_images), glance(network, normalised)
    # Of uint8, only a glance with aligned corners is not rounded.
    close = torch.allclose(state.vector, floats.vector, atol=1e-4)
    assert close == align_corners
    seen = look(network, tiny_images, locations, state)
    same = look(network, normalised, locations, state)
    torch.testing.assert_close(seen.vector, same.vector, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_glance_is_the_resized_picture(interpolation, antialias):
    view = build(interpolation=interpolation, antialias=antialias).view
    flat = ArrayImages(torch.full((1, 3, 33, 57), 77, dtype=torch.uint8))
    assert (flat.overview(0, view) == 77).all()
    assert flat.overview(0, view).dtype == torch.uint8
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(ArrayImages(pixels).overview(0, view), pixels)
    pixels = torch.randint(0, 256, (1, 3, 61, 47), dtype=torch.uint8)
    reference = functional.interpolate(
        pixels.float(), (16, 16), mode=interpolation, antialias=antialias
    )
    found = ArrayImages(pixels).overview(0, view)
    assert (found - reference.clamp(0, 255)).abs().max() <= 1


def test_corner_rounding_reaches_the_window(tiny_images):
    networks = [build(corner_rounding=rounding) for rounding in ("nearest", "floor")]

    def logits(network, location):
        start = glance(network, tiny_images)
        return look(network, tiny_images, torch.tensor([location]).expand(12, 2), start).logits

    # 24 − 16 = 8 rows of room: row 4.8 is 5 to the nearest pixel and 4 rounded down.
    nearest, floored = (logits(network, [0.2, -1.0]) for network in networks)
    assert not torch.equal(nearest, floored)
    assert torch.equal(nearest, logits(networks[0], [0.25, -1.0]))
    assert torch.equal(floored, logits(networks[0], [0.0, -1.0]))


@pytest.mark.parametrize("encode", ["encode_overview", "encode_window"])
def test_views_of_another_size_are_refused(tiny_network, encode):
    with pytest.raises(ValueError, match=r"must be \(B, 3, 16, 16\), not \(2, 3, 24, 32\)"):
        getattr(tiny_network, encode)(torch.zeros(2, 3, 24, 32, dtype=torch.uint8))


def test_saved_and_loaded_networks_agree(tiny_images, tmp_path):
    network = build(
        focus_steps=4,
        interpolation="bicubic",
        aspect="pad",
        corner_rounding="floor",
        class_names=tuple("abcde"),
    )
    network.trained_on = TrainingData(
        images="folder:x", seed=3, fit="whole", accuracy={"random": (0.5, 0.75)}
    )
    with torch.no_grad():  # Batch statistics are part of what is saved.
        network.train().encode_overview(tiny_images.overview(slice(None), network.view))
    network.eval().save(tmp_path)
    loaded = GlanceFocusNetwork.load(tmp_path)
    assert loaded.config == network.config
    assert loaded.class_names == tuple("abcde")
    assert not loaded.training
    states = [glance(each, tiny_images) for each in (network, loaded)]
    states = [
        look(each, tiny_images, torch.full((12, 2), 0.3), state)
        for each, state in zip((network, loaded), states, strict=True)
    ]
    assert torch.equal(states[0].logits, states[1].logits)


def test_a_compiled_encoder_is_saved_like_any_other(tmp_path, network, digits):
    expected, digest = glance(network, digits).logits, weights_digest(network)
    for name in network.encoder_modules:
        setattr(network, name, torch.compile(getattr(network, name)))
    assert weights_digest(network) == digest
    network.save(tmp_path)
    assert torch.equal(glance(GlanceFocusNetwork.load(tmp_path), digits).logits, expected)


@pytest.mark.parametrize("change", [nn.DataParallel, weight_norm])
def test_what_could_not_be_loaded_is_not_saved(change, tmp_path, tiny_network):
    tiny_network.classifier.linear = change(tiny_network.classifier.linear)
    with pytest.raises(ValueError, match="cannot be saved, since it could not be loaded"):
        tiny_network.save(tmp_path)
    with pytest.raises(ValueError, match="undo DataParallel"):
        EarlyExitGFNet(tiny_network, RandomPolicy()).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_networks_of_0_1_load(tmp_path, network, digits):
    network.save(tmp_path)
    path = tmp_path / "network.json"
    saved = json.loads(path.read_text())
    kept = "encoder patch_size num_classes focus_steps classifier interpolation antialias"
    kept += " corner_rounding class_names weights_sha256"
    metadata = {"images": "cluttered-digits", "image_size": 128, "seed": 0, "commit": "1267cad"}
    accuracy = {"random": [0.729, 0.744, 0.759, 0.765], "target": [0.729, 0.982, 0.9865, 0.986]}
    old = {name: saved[name] for name in kept.split()}
    path.write_text(json.dumps(old | {"metadata": metadata | {"test_accuracy": accuracy}}))
    loaded = GlanceFocusNetwork.load(tmp_path)
    assert loaded.trained_on.images == "cluttered-digits"
    assert loaded.trained_on.image_size == 128
    assert loaded.trained_on.fit == "crop"
    assert loaded.trained_on.accuracy["target"] == (0.729, 0.982, 0.9865, 0.986)
    assert torch.equal(glance(loaded, digits).logits, glance(network, digits).logits)
    loaded.save(tmp_path)
    assert GlanceFocusNetwork.load(tmp_path).config == loaded.config
    assert "metadata" not in json.loads(path.read_text())
    # Its metadata were free.
    free = {"images": None, "image_size": None, "crop": 0.875, "notes": ["mine"], "seed": None}
    path.write_text(json.dumps(old | {"metadata": free}))
    assert GlanceFocusNetwork.load(tmp_path).trained_on == TrainingData(crop=0.875)


def change_saved(folder, **changes):
    path = folder / "network.json"
    saved = json.loads(path.read_text()) | changes
    # As another version would have saved it: its digest is right, if it has one.
    del saved["sha256"]
    path.write_text(json.dumps({key: value for key, value in saved.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 6}, "do not fit this configuration"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"encoder": "gone"}, r"network\.json does not describe a network .*encoder"),
        ({"retina": True}, "retina.*another version"),
        ({"encoder": "some_module:Encoder"}, "'some_module', which no file may import"),
        ({"trained_on": {"crop": 2}}, r"network\.json .*crop must be in"),
        ({"trained_on": []}, r"network\.json does not describe a network"),
        ({"trained_on": {"accuracy": 1}}, r"network\.json does not describe a network"),
        ({"corner_rounding": 64}, r"network\.json .*corner_rounding must be nearest or floor"),
        ({"encoder": "-1"}, r"network in .*network\.json cannot be built: unknown encoder '-1'"),
    ],
)
def test_damaged_configurations_are_refused(change, message, tiny_network, tmp_path):
    tiny_network.save(tmp_path)
    change_saved(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        GlanceFocusNetwork.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        GlanceFocusNetwork.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"focus_steps": 0}, "focus_steps must be at least 1"),
        ({"focus_steps": 2**40}, "focus_steps must be at most 1,000, not 1099511627776"),
        ({"patch_size": 2**40}, "patch_size must be at most 10,000"),
        ({"num_classes": 10**12}, "num_classes must be at most 1,000,000"),
        ({"memory_size": 2**31}, "memory_size must be at most 10,000"),
        ({"encoder": f"compact:strides=[1,1,{2**63}]"}, "strides of 'compact:.* of 64 bits"),
        ({"interpolation": "nearest"}, "interpolation must be bilinear or bicubic, not 'nearest'"),
        ({"corner_rounding": "up"}, "corner_rounding must be nearest or floor, not 'up'"),
        ({"aspect": "crop"}, "aspect must be stretch or pad, not 'crop'"),
        ({"class_names": ("one",)}, "1 class names were given for 5 classes"),
        (
            {"classifier": "oracle"},
            "unknown classifier 'oracle'; known: attention",
        ),
        ({"encoder": "resnet51"}, "unknown encoder 'resnet51'"),
        ({"memory_size": 0}, "memory_size must be at least 1, not 0"),
        ({"glance_logits": "policy"}, "glance_logits must be classifier or encoder, not 'policy'"),
        ({"classifier": "cascade", "glance_logits": "classifier"}, "'cascade' has no logits for a"),
        ({"encoder": "vit_tiny_patch16_224:depth=1", "patch_size": 40}, "a multiple of 16, not 40"),
        ({"encoder": "crossvit_tiny_240"}, "does not end in one linear layer"),
    ],
)
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_normalisation_travels_with_the_weights(tiny_network):
    assert "local_encoder.mean" in tiny_network.state_dict()


def test_building_a_network_leaves_its_batch_statistics_untouched(tiny_network):
    fresh = GlanceFocusNetwork(tiny_network.config)
    assert fresh.local_encoder.training
    for name, buffer in fresh.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == 0


@pytest.mark.parametrize("part", ["encoder", "classifier"])
def test_a_file_calls_nothing_but_parts(part, tiny_network, tmp_path):
    tiny_network.save(tmp_path)
    path = tmp_path / "network.json"
    saved = {**json.loads(path.read_text()), part: f"os:mkdir:path={tmp_path / 'made'}"}
    del saved["sha256"]
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="module 'os', which no file may import"):
        GlanceFocusNetwork.load(tmp_path)
    assert not (tmp_path / "made").exists()
