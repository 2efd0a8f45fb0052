import dataclasses
import json
import pickle

import pytest
import torch
from torch.nn import functional

import gfnet_env
from gfnet_env.perception import NetworkConfig


def test_shapes_of_a_glance_and_a_focus(tiny_network, tiny_images):
    with torch.no_grad():
        glance = tiny_network.glance(tiny_images[:])
        focus = tiny_network.focus(tiny_images[:], torch.zeros(12, 2), glance)
    for step, number in ((glance, 0), (focus, 1)):
        assert step.feature_map.shape == (12, *tiny_network.feature_shape)
        assert step.memory.shape == (12, tiny_network.memory_size)
        assert step.logits.shape == (12, 5)
        assert step.number.tolist() == [number] * 12
        assert torch.allclose(step.probabilities.sum(dim=1), torch.ones(12))
        assert torch.equal(step.confidence, step.probabilities.max(dim=1).values)
    assert torch.equal(focus.glance_map, glance.feature_map)


def test_a_focus_sees_the_pixels_of_its_patch_and_no_others(tiny_network, tiny_images):
    images = tiny_images[[0]]
    with torch.no_grad():
        glance = tiny_network.glance(images)
        seen = tiny_network.focus(images, torch.tensor([[-1.0, -1.0]]), glance)
        outside, inside = images.clone(), images.clone()
        outside[:, :, 16:], outside[:, :, :, 16:] = 0, 0
        inside[:, :, 5, 5] = 255 - inside[:, :, 5, 5]
        again = tiny_network.focus(outside, torch.tensor([[-1.0, -1.0]]), glance)
        other = tiny_network.focus(inside, torch.tensor([[-1.0, -1.0]]), glance)
    assert torch.equal(seen.logits, again.logits)
    assert not torch.equal(seen.logits, other.logits)


@pytest.fixture
def cascade():
    torch.manual_seed(0)
    return gfnet_env.GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, focus_steps=2, classifier="cascade"
    ).eval()


@pytest.mark.parametrize("fixture", ["tiny_network", "cascade"])
def test_rows_at_different_steps_share_a_batch(request, fixture, tiny_images):
    tiny_network = request.getfixturevalue(fixture)
    images, locations = tiny_images[:], torch.rand(12, 2) * 2 - 1
    with torch.no_grad():
        glance = tiny_network.glance(images)
        first = tiny_network.focus(images, locations, glance)
        some, others = torch.arange(0, 12, 2), torch.arange(1, 12, 2)
        mixed = glance.with_rows(some, first.select(some))
        after = tiny_network.focus(images, locations, mixed)
        second = tiny_network.focus(images, locations, first)
    assert after.number.tolist() == [2, 1] * 6
    torch.testing.assert_close(after.logits[some], second.logits[some])
    torch.testing.assert_close(after.logits[others], first.logits[others])


def test_what_is_seen_of_a_cell_is_the_most_that_one_patch_has_covered():
    network = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, focus_steps=2
    ).eval()
    # Its map has 4×4 cells, of 16 pixels each.
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        step = network.glance(images)
        assert step.seen.tolist() == [[[0] * 4] * 4]
        for row, first_column in ((8, [0.5, 0.5, 0, 0]), (24, [0.5, 0.5, 0.5, 0])):
            location = torch.tensor([[row / 24 - 1, -1]])
            step = network.focus(images, location, step)
            assert step.seen[0, :, 0].tolist() == first_column
            assert (step.seen[0, :, 1:] == 0).all()


def test_a_network_can_be_pickled(tiny_network, tiny_images):
    other = pickle.loads(pickle.dumps(tiny_network))
    with torch.no_grad():
        before = tiny_network.glance(tiny_images[:]).logits
        assert torch.equal(other.glance(tiny_images[:]).logits, before)


def test_rows_name_the_images_of_a_smaller_step(tiny_network, tiny_images):
    images, rows = tiny_images[:], torch.tensor([7, 2])
    locations = torch.tensor([[0.3, -0.4], [-1.0, 1.0]])
    with torch.no_grad():
        glance = tiny_network.glance(images).select(rows)
        by_rows = tiny_network.focus(images, locations, glance, rows)
        copied = tiny_network.focus(images[rows], locations, glance)
    assert torch.equal(by_rows.logits, copied.logits)
    with pytest.raises(ValueError, match="12 images were given 2 locations"):
        tiny_network.focus(images, locations, glance)


def test_the_glance_may_be_judged_by_the_encoders_own_head(cascade, tiny_images):
    images = tiny_images[:]
    own_head = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact",
        patch_size=16,
        num_classes=5,
        memory_size=24,
        glance_logits="encoder",
    ).eval()
    assert own_head.memory_size == 24
    for network in (cascade, own_head):
        with torch.no_grad():
            step = network.glance(images)
            assert torch.equal(step.logits, network.global_encoder.head(step.vector))
            assert step.memory.any()


@pytest.mark.parametrize("align_corners", [True, False])
def test_normalised_images_are_taken_as_they_are(align_corners, tiny_images):
    network = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact",
        patch_size=16,
        num_classes=5,
        antialias=False,
        align_corners=align_corners,
        interpolation="bicubic",
    ).eval()
    images, encoder = tiny_images[:], network.global_encoder
    normalised = (images - encoder.mean) / encoder.std
    locations = torch.rand(12, 2) * 2 - 1
    with torch.no_grad():
        step = network.glance(images)
        floats = network.glance(normalised, normalised=True)
        # Of uint8, only a glance with aligned corners is not rounded.
        close = torch.allclose(step.vector, floats.vector, atol=1e-4)
        assert close == align_corners
        seen = network.focus(images, locations, step)
        same = network.focus(normalised, locations, step, normalised=True)
    torch.testing.assert_close(seen.vector, same.vector, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"must be floating point, not torch\.uint8"):
        network.glance(images, normalised=True)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_glance_is_the_resized_image(interpolation, antialias):
    network = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact",
        patch_size=16,
        num_classes=2,
        interpolation=interpolation,
        antialias=antialias,
    )
    flat = torch.full((1, 3, 33, 57), 77, dtype=torch.uint8)
    assert (network.scale_down(flat) == 77).all()
    assert network.scale_down(flat).dtype == torch.uint8
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(network.scale_down(image), image)
    image = torch.randint(0, 256, (1, 3, 61, 47), dtype=torch.uint8)
    reference = functional.interpolate(
        image.float(), (16, 16), mode=interpolation, antialias=antialias
    )
    assert (network.scale_down(image) - reference.clamp(0, 255)).abs().max() <= 1


def test_corner_rounding_reaches_the_patch(tiny_images):
    torch.manual_seed(0)
    networks = [
        gfnet_env.GlanceFocusNetwork.build(
            encoder="compact", patch_size=16, num_classes=5, corner_rounding=rounding
        ).eval()
        for rounding in ("nearest", "floor")
    ]
    networks[1].load_state_dict(networks[0].state_dict())
    images = tiny_images[:]

    def logits(network, location):
        with torch.no_grad():
            glance = network.glance(images)
            return network.focus(images, torch.tensor([location]).expand(12, 2), glance).logits

    # 24 − 16 = 8 rows of room: row 4.8 is 5 to the nearest pixel and 4 rounded down.
    nearest, floored = (logits(network, [0.2, -1.0]) for network in networks)
    assert not torch.equal(nearest, floored)
    assert torch.equal(nearest, logits(networks[0], [0.25, -1.0]))
    assert torch.equal(floored, logits(networks[0], [0.0, -1.0]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 24, 24), "uint8 in 0..255, not torch.float32"),
        (torch.zeros(3, 24, 24, dtype=torch.uint8), r"\(B, 3, H, W\), not \(3, 24, 24\)"),
        (torch.zeros(1, 1, 24, 24, dtype=torch.uint8), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 15, 24, dtype=torch.uint8), "15×24 are smaller than the patch of 16×16"),
    ],
)
def test_wrong_images_are_refused(tiny_network, images, message):
    with pytest.raises(ValueError, match=message):
        tiny_network.glance(images)


def test_saved_and_loaded_networks_agree(tiny_images, tmp_path):
    network = gfnet_env.GlanceFocusNetwork.build(
        encoder="compact",
        patch_size=16,
        num_classes=5,
        focus_steps=4,
        interpolation="bicubic",
        corner_rounding="floor",
        class_names=tuple("abcde"),
        metadata={"seed": 3},
    )
    network.glance(tiny_images[:])  # Batch statistics are part of what is saved.
    network.eval().save(tmp_path)
    loaded = gfnet_env.GlanceFocusNetwork.load(tmp_path)
    assert loaded.config == network.config
    assert not loaded.training
    with torch.no_grad():
        steps = [net.glance(tiny_images[:]) for net in (network, loaded)]
        steps = [
            net.focus(tiny_images[:], torch.full((12, 2), 0.3), step)
            for net, step in zip((network, loaded), steps, strict=True)
        ]
    assert torch.equal(steps[0].logits, steps[1].logits)


def test_a_checkpoint_for_other_classes_is_refused(tiny_network, tmp_path):
    tiny_network.save(tmp_path)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_classes": 6}))
    with pytest.raises(ValueError, match="do not fit this configuration"):
        gfnet_env.GlanceFocusNetwork.load(tmp_path)


def test_an_incomplete_configuration_is_named(tiny_network, tmp_path):
    tiny_network.save(tmp_path)
    path = tmp_path / "network.json"
    saved = json.loads(path.read_text())
    del saved["encoder"]
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"network\.json does not describe a network .*encoder"):
        gfnet_env.GlanceFocusNetwork.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        gfnet_env.GlanceFocusNetwork.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"focus_steps": 0}, "focus_steps must be at least 1"),
        ({"interpolation": "nearest"}, "unknown interpolation 'nearest'"),
        ({"corner_rounding": "up"}, "unknown corner rounding 'up'"),
        ({"class_names": ("one",)}, "1 class names were given for 5 classes"),
        ({"classifier": "oracle"}, "unknown classifier 'oracle'; known: recurrent"),
        ({"encoder": "resnet51"}, "unknown encoder 'resnet51'"),
        ({"memory_size": 0}, "memory_size must be at least 1, not 0"),
        ({"glance_logits": "policy"}, "unknown glance_logits 'policy': classifier or encoder"),
        ({"classifier": "cascade", "glance_logits": "classifier"}, "'cascade' has no logits of a"),
        ({"encoder": "vit_tiny_patch16_224", "patch_size": 224}, "choose a convolutional network"),
        ({"encoder": "vit_tiny_patch16_224", "patch_size": 96}, "does not take 96×96 images"),
        ({"encoder": "swin_tiny_patch4_window7_224"}, "choose a convolutional network"),
    ],
)
def test_impossible_networks_are_refused(change, message):
    values = {"encoder": "compact", "patch_size": 16, "num_classes": 5} | change
    with pytest.raises(ValueError, match=message):
        gfnet_env.GlanceFocusNetwork.build(**values)


def test_a_configuration_of_another_version_is_refused(tiny_network, tmp_path):
    tiny_network.save(tmp_path)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retina": True}))
    with pytest.raises(ValueError, match="retina.*another version"):
        gfnet_env.GlanceFocusNetwork.load(tmp_path)


def test_normalisation_travels_with_the_weights(tiny_network):
    assert "local_encoder.mean" in tiny_network.state_dict()


def test_building_a_network_leaves_its_batch_statistics_untouched(tiny_network):
    fresh = gfnet_env.GlanceFocusNetwork(NetworkConfig(**dataclasses.asdict(tiny_network.config)))
    assert fresh.local_encoder.training
    for name, buffer in fresh.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == 0
