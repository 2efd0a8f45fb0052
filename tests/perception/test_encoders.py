import pytest
import safetensors.torch
import timm
import torch

from gfnet_env.perception import build_encoder

TIMM_NAMES = ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0", "densenet121"]


@pytest.mark.parametrize("name", ["compact", *TIMM_NAMES])
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
    path.write_text("no weights")
    with pytest.raises(ValueError, match="cannot read the weights file"):
        build_encoder("resnet18", 7, path)
    with pytest.raises(ValueError, match="has no weights to load"):
        build_encoder("compact", 7, path)


def test_an_unknown_encoder_lists_what_comes_close():
    with pytest.raises(ValueError, match="unknown encoder 'resnet51'; did you mean .*'resnet50'"):
        build_encoder("resnet51", 7)
