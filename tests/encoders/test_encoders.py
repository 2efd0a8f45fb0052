import sys
import types

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from gfnet_env.benchmarks.backbones import check_backbone
from gfnet_env.encoders import (
    ENCODERS,
    Encoder,
    Features,
    ModuleEncoder,
    build_encoder,
    example_features,
)
from gfnet_env.models import GlanceFocusNetwork, blank_state

TIMM_NAMES = ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0", "densenet121"]
SHUFFLENET = "torchvision:shufflenet_v2_x0_5"


@pytest.mark.parametrize("name", ["compact", "compact-deep", *TIMM_NAMES])
def test_an_encoder_has_a_map_a_vector_and_a_head(name):
    encoder = build_encoder(name, 7).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        feature_map, vector = encoder(images)
        logits = encoder.head(vector)
    assert feature_map.ndim == 4
    assert vector.ndim == 2
    assert logits.shape == (2, 7)


def test_a_timm_encoder_is_the_timm_model():
    torch.manual_seed(0)
    encoder = build_encoder("mobilenetv3_small_050", 7).eval()
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=7).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean = torch.tensor(model.pretrained_cfg["mean"]).view(3, 1, 1)
    std = torch.tensor(model.pretrained_cfg["std"]).view(3, 1, 1)
    with torch.no_grad():
        own = encoder.head(encoder(images).vector)
        reference = model((images / 255 - mean) / std)
    torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_local_file(tmp_path, suffix):
    donor = timm.create_model("mobilenetv3_small_050", num_classes=1000)
    path = tmp_path / f"weights.{suffix}"
    save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    save(donor.state_dict(), path)
    encoder = build_encoder("mobilenetv3_small_050", 7, path)
    assert torch.equal(encoder.model.conv_stem.weight, donor.conv_stem.weight)
    assert encoder.model.get_classifier().out_features == 7


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nowhere"):
        build_encoder("resnet18", 7, tmp_path / "nowhere.safetensors")
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    with pytest.raises(ValueError, match=r"weights in .*other\.safetensors do not fit"):
        build_encoder("resnet18", 7, path)
    stem = {"stem.weight": torch.zeros(3)}
    safetensors.torch.save_file(stem, path)
    with pytest.raises(ValueError, match=r"weights in .*other\.safetensors do not fit"):
        build_encoder("resnet18", 7, path)
    torch.save({"net": {}, "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(ValueError, match=r"training\.pth holds more than tensors: net, epoch"):
        build_encoder("resnet18", 7, tmp_path / "training.pth")
    path.write_text("no weights")
    with pytest.raises(ValueError, match="cannot read the weights file"):
        build_encoder("resnet18", 7, path)
    with pytest.raises(ValueError, match="has no weights to load"):
        build_encoder("compact", 7, path)


def test_an_unknown_encoder_lists_what_comes_close():
    with pytest.raises(ValueError, match="unknown encoder 'resnet51'; did you mean .*'resnet50'"):
        build_encoder("resnet51", 7)
    with pytest.raises(ValueError, match="timm cannot build 'resnet18.nonsense'"):
        build_encoder("resnet18.nonsense", 7)
    with pytest.raises(ValueError, match="did you mean torchvision:shufflenet_v2_x0_5 or"):
        build_encoder("torchvision:shufflenet_v2_x05", 7)
    with pytest.raises(ValueError, match="unknown encoder 'qqq'; Known: compact, compact-deep"):
        build_encoder("qqq", 7)


def test_encoders_have_parameters():
    encoder = build_encoder("compact:widths=[8,24],strides=[2,2]", 7)
    feature_map, vector = encoder(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert feature_map.shape == (1, 24, 8, 8)
    assert vector.shape == (1, 24)
    resnet = build_encoder("resnet18:stem_width=32", 7)
    assert resnet.model.conv1.out_channels == 64
    with pytest.raises(ValueError, match=r"not widths \[8\] and strides \[2, 2, 1\]"):
        build_encoder("compact:widths=[8]", 7)
    for wrong in ("mean=[0,0]", "std=[1,1,1,1]", "mean=[]"):
        with pytest.raises(ValueError, match="must be 3 finite numbers, one per channel, not"):
            build_encoder(f"compact:{wrong}", 7)
    with pytest.raises(ValueError, match=r"std must be positive, not \(1.0, 0.0, 1.0\)"):
        build_encoder("compact:std=[1,0,1]", 7)
    with pytest.raises(ValueError, match=f"widths must be at most 10,000, not {2**40}"):
        build_encoder(f"compact:widths=[{2**40},8,8]", 7)
    with pytest.raises(ValueError, match="num_classes must be at least 1, not 0"):
        build_encoder("compact", 0)
    with pytest.raises(ValueError, match="has no parameter 'depth'; it has :widths="):
        build_encoder("compact:depth=3", 7)
    # A file that names an encoder must not name another file, nor change the number of classes.
    for option in ("checkpoint_path=x.pth", "pretrained_cfg=x", "num_classes=3", "deep", "a=1,a=2"):
        with pytest.raises(ValueError, match="takes each argument of the network once"):
            build_encoder(f"resnet18:{option}", 7)
    with pytest.raises(ValueError, match="'resnet18' does not end in one linear layer; choose"):
        build_encoder("resnet18:features_only=true", 7)


@pytest.mark.parametrize(
    ("name", "channels", "vector_size"),
    [
        ("mobilenetv3_large_125", 1200, 1280),
        ("regnety_600m", 608, 608),
        (SHUFFLENET, 1024, 1024),
    ],
)
def test_backbones_learn_and_survive_saving(name, channels, vector_size):
    found = check_backbone(name, training_size=64)
    assert found.feature_shape == (channels, 3, 3)
    assert found.vector_size == vector_size
    assert found.multiply_adds > 1e6


def test_the_papers_names_are_those_of_timm():
    theirs = build_encoder("regnety_1.6g", 7).model.state_dict()
    reference = timm.create_model("regnety_016", num_classes=7).state_dict()
    assert [(key, value.shape) for key, value in theirs.items()] == [
        (key, value.shape) for key, value in reference.items()
    ]
    with pytest.raises(ValueError, match="weights of mobilenetv3_large_125: nobody has published"):
        build_encoder("mobilenetv3_large_125", 7, "pretrained")


def test_a_torchvision_encoder_is_the_torchvision_model(tmp_path):
    torch.manual_seed(0)
    model = models.shufflenet_v2_x0_5(num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder(SHUFFLENET, 7, tmp_path / "weights.pth").eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        feature_map, vector = encoder(images)
        own = encoder.head(vector)
        reference = model((images - encoder.mean) / encoder.std)
    torch.testing.assert_close(own, reference)
    torch.testing.assert_close(vector, feature_map.mean(dim=(2, 3)))
    other = build_encoder(SHUFFLENET, 5, tmp_path / "weights.pth")
    assert other.head_module().out_features == 5
    with pytest.raises(ValueError, match="weights in .* do not fit"):
        build_encoder("torchvision:shufflenet_v2_x1_0", 7, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_torchvision_networks_of_blocks_are_found_their_way_through(name):
    torch.manual_seed(0)
    encoder = build_encoder(f"torchvision:{name}", 7).eval()
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, num_classes=7).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        feature_map, vector = encoder(images)
        reference = model((images - encoder.mean) / encoder.std)
    torch.testing.assert_close(encoder.head(vector), reference)
    torch.testing.assert_close(vector, feature_map.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["dla46_c", "levit_conv_128s"])
def test_a_timm_network_without_one_linear_layer_at_its_end_is_refused(name):
    with pytest.raises(ValueError, match=f"{name!r} does not end in one linear layer"):
        build_encoder(name, 7)


def test_a_torchvision_network_without_a_vector_is_refused():
    with pytest.raises(ValueError, match="'squeezenet1_1' has no head that takes in a pooled"):
        build_encoder("torchvision:squeezenet1_1", 7)


class GroupedBlock(nn.Module):
    """As in the README."""

    def __init__(self, channels, growth, groups=4):
        super().__init__()
        self.grow = nn.Sequential(
            *(nn.BatchNorm2d(channels), nn.ReLU()),
            nn.Conv2d(channels, 4 * growth, 1, groups=groups, bias=False),
            *(nn.ChannelShuffle(groups), nn.BatchNorm2d(4 * growth), nn.ReLU()),
            nn.Conv2d(4 * growth, growth, 3, padding=1, groups=groups, bias=False),
        )

    def forward(self, x):
        return torch.cat([x, self.grow(x)], dim=1)


def own_encoder(num_classes):
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        *(GroupedBlock(16, 8), GroupedBlock(24, 8), nn.AvgPool2d(2)),
    )
    return ModuleEncoder(body, head=nn.Linear(32, num_classes))


def test_an_encoder_of_ones_own_is_built_and_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_targets", dict(ENCODERS._targets))
    name = "a-test-of-ones-own"
    with pytest.raises(ValueError, match=f"unknown encoder '{name}'.* module:NAME"):
        build_encoder(name, 5)
    ENCODERS.register(name)(own_encoder)
    network = GlanceFocusNetwork.build(encoder=name, patch_size=16, num_classes=5).eval()
    network.save(tmp_path)
    loaded = GlanceFocusNetwork.load(tmp_path)
    state, again = blank_state(network, 2), blank_state(loaded, 2)
    assert state.feature_map.shape == (2, 32, 4, 4)
    torch.testing.assert_close(state.vector, state.feature_map.mean(dim=(2, 3)))
    assert network.global_encoder.head(state.vector).shape == (2, 5)
    assert torch.equal(state.logits, again.logits)
    with pytest.raises(ValueError, match=f"'{name}' has no weights to load"):
        build_encoder(name, 5, "pretrained")
    for taken in ("compact", "compact-deep", "torchvision"):
        with pytest.raises(ValueError, match=f"the encoder '{taken}' exists already"):
            ENCODERS.register(taken)(own_encoder)


def test_an_encoder_of_ones_own_may_be_named_by_its_module(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_encoders", sys.modules[__name__])
    spec = "my_encoders:own_encoder"
    network = GlanceFocusNetwork.build(encoder=spec, patch_size=16, num_classes=5).eval()
    network.save(tmp_path)
    loaded = GlanceFocusNetwork.load(tmp_path)
    assert torch.equal(blank_state(network).logits, blank_state(loaded).logits)
    monkeypatch.delitem(sys.modules, "my_encoders")
    with pytest.raises(ValueError, match="'my_encoders', which no file may import"):
        GlanceFocusNetwork.load(tmp_path)
    with pytest.raises(ValueError, match="there is no encoder 'my_encoders:own_encoder'"):
        build_encoder(spec, 5)
    with pytest.raises(ValueError, match="makes a Identity; make an Encoder"):
        build_encoder("torch.nn:Identity", 5)


def test_black_may_be_zero():
    encoder = build_encoder("compact:mean=[0,0,0],std=[0.5,0.5,0.5]", 7).eval()
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert not ((black - encoder.mean) / encoder.std).any()
    white = (torch.full_like(black, 255) - encoder.mean) / encoder.std
    assert (white == 2).all()


def test_the_early_layers_of_a_network_see_finely(tmp_path):
    donor = timm.create_model("mobilenetv3_small_050")
    safetensors.torch.save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    whole = build_encoder("mobilenetv3_small_050", 7)
    early = build_encoder(
        "early:mobilenetv3_small_050,level=2", 7, tmp_path / "weights.safetensors"
    ).eval()
    assert torch.equal(early.model.conv_stem.weight, donor.conv_stem.weight)
    views = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        feature_map, vector = early(views)
        normalised = (views - early.mean) / early.std
        options = {"indices": [2], "stop_early": True, "intermediates_only": True}
        wanted = donor.eval().forward_intermediates(normalised, **options)
    torch.testing.assert_close(feature_map, wanted[0])
    assert feature_map.shape[2:] == (8, 8)
    assert vector.shape == (2, 2 * feature_map.shape[1])
    assert early.head(vector).shape == (2, 7)
    assert sum(p.numel() for p in early.parameters()) < 0.2 * sum(
        p.numel() for p in whole.parameters()
    )
    with pytest.raises(ValueError, match="timm cannot cut 'resnet18' at level 9"):
        build_encoder("early:resnet18,level=9", 7)
    with pytest.raises(ValueError, match="timm cannot build 'resnet17'"):
        build_encoder("early:resnet17,level=2", 7)
    # timm itself would ask the network for it, or read the folder.
    for name in ("hf-hub:timm/resnet18.a1_in1k", f"local-dir:{tmp_path}"):
        with pytest.raises(ValueError, match=f"timm cannot build '{name}': choose what timm.list"):
            build_encoder(f"early:{name},level=2", 7)


class _Broken(Encoder):
    """An encoder of one's own that returns something else."""

    def __init__(self, answer, units=4, classes=5):
        super().__init__()
        self.answer, self.last = answer, nn.Linear(units, classes)

    def encode(self, views):
        return self.answer(functional.avg_pool2d(views, 4).repeat(1, 2, 1, 1)[:, :4])

    def head_module(self):
        return self.last


def _pooled(maps):
    return maps.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (_Broken(lambda maps: maps), r"must return Features\(map, vector\), not a Tensor"),
        (_Broken(lambda maps: (maps, _pooled(maps))), "not a tuple"),
        (_Broken(lambda maps: None), "not a NoneType"),
        (_Broken(lambda maps: Features(_pooled(maps), maps)), r"feature map .* \(2, C, h, w\)"),
        (
            _Broken(lambda maps: Features(maps, maps)),
            r"the vector .* must be \(2, V\) torch.float32",
        ),
        # As many rows as there are views: one would be taken for all.
        (_Broken(lambda maps: Features(maps[:1], _pooled(maps))), r"not \(1, 4, 4, 4\)"),
        (_Broken(lambda maps: Features(maps, _pooled(maps)[:1])), r"not \(1, 4\)"),
        (_Broken(lambda maps: Features(maps, _pooled(maps).double())), "torch.float64"),
        (_Broken(lambda maps: Features(maps, _pooled(maps)), classes=3), r"\(2, 5\) .* \(2, 3\)"),
        (_Broken(lambda maps: Features(maps, _pooled(maps)), units=7), "does not take 16×16 views"),
    ],
)
def test_what_an_encoder_of_ones_own_returns_is_checked_before_training(
    encoder, message, monkeypatch
):
    monkeypatch.setitem(sys.modules, "my_encoders", types.SimpleNamespace(own=lambda: encoder))
    for build in (
        lambda: GlanceFocusNetwork.build(encoder="my_encoders:own", patch_size=16, num_classes=5),
        lambda: example_features(encoder, 16, 5, "my_encoders:own"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
