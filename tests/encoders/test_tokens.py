"""Networks of tokens as encoders: vision transformers, and such whose maps have channels last."""

import io

import pytest
import safetensors.torch
import timm
import torch
from torch.nn import functional

from gfnet_env import rows
from gfnet_env.encoders import build_encoder
from gfnet_env.looks import Look
from gfnet_env.models import GlanceFocusNetwork, blank_state, blank_views, count_multiply_adds
from gfnet_env.precision import autocast, with_weights_in

VIT = "vit_tiny_patch16_224:depth=1"
DEIT3 = "deit3_small_patch16_224:depth=1"
SWIN = "swin_tiny_patch4_window7_224:embed_dim=24,depths=[1,2],num_heads=[2,4]"
SPECS = [VIT, DEIT3, SWIN]


def build(spec, patch_size=32, **config):
    torch.manual_seed(0)
    return GlanceFocusNetwork.build(
        encoder=spec, patch_size=patch_size, num_classes=5, focus_steps=2, **config
    ).eval()


def noise(count, side):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


@torch.no_grad()
def episode(network, views):
    sizes = torch.full((len(views), 2), network.patch_size)
    state = network.begin(network.encode_overview(views), sizes)
    return network.look(network.encode_window(views), Look.at(state.location), state)


@pytest.mark.parametrize(
    ("spec", "shape"), [(VIT, (192, 4, 4)), (DEIT3, (384, 4, 4)), (SWIN, (48, 8, 8))]
)
def test_tokens_are_a_map_and_what_the_head_takes_in_is_the_vector(spec, shape):
    encoder = build_encoder(spec, 5, patch_size=64).eval()
    views = noise(2, 64)
    with torch.no_grad():
        feature_map, vector = encoder(views)
        normalised = (views - encoder.mean) / encoder.std
        tokens = encoder.model.forward_features(normalised)
        torch.testing.assert_close(encoder.head(vector), encoder.model(normalised))
    assert feature_map.shape == (2, *shape)
    channels, height, width = shape
    if tokens.ndim == 3:
        # The class token comes first.
        assert tokens.shape[1] == 1 + height * width
        tokens = tokens[:, 1:].unflatten(1, (height, width))
        assert torch.equal(
            vector,
            encoder.model.forward_head(encoder.model.forward_features(normalised), pre_logits=True),
        )
    assert torch.equal(feature_map, tokens.permute(0, 3, 1, 2))
    assert vector.shape == (2, channels)


@pytest.mark.parametrize("classifier", ["recurrent", "cascade"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_network_of_tokens_learns_and_survives_saving(spec, classifier, tmp_path):
    network = build(spec, classifier=classifier)
    # A part of an encoder may be frozen by its name.
    frozen = network.global_encoder.get_submodule("model.patch_embed").requires_grad_(False)
    views = noise(4, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    state = network.begin(network.encode_overview(views), torch.full((4, 2), 32))
    state = network.look(network.encode_window(views), Look.at(state.location), state)
    own = network.own_logits(state)
    for logits in (state.logits, own):
        functional.cross_entropy(logits, torch.arange(4)).backward(retain_graph=True)
    optimiser.step()
    after = network.state_dict()
    assert frozen.proj.weight.grad is None
    for name in ("global_encoder.model.norm.weight", "local_encoder.model.patch_embed.proj.weight"):
        assert not torch.equal(after[name], before[name])
    network.save(tmp_path)
    loaded = GlanceFocusNetwork.load(tmp_path)
    assert torch.equal(episode(network, views).logits, episode(loaded, views).logits)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16_is_close_and_converted_weights_give_the_same(spec):
    network = build(spec)
    views = noise(4, 32)
    exact = network.encode_window(views).vector
    converted = with_weights_in(network, "bfloat16")
    with torch.no_grad(), autocast(network.device, "bfloat16"):
        half, same = network.encode_window(views), converted.encode_window(views)
    for found, wanted in zip(same, half, strict=True):
        assert torch.equal(found, wanted)
    assert (half.vector.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Of how timm calls torch.
@pytest.mark.parametrize("spec", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_weights_files_of_another_size_are_interpolated(spec, tmp_path):
    options = {"depth": 1} if spec.startswith("vit") else {"depths": [1, 1], "num_heads": [2, 4]}
    donor = timm.create_model(spec, num_classes=1000, **options)
    safetensors.torch.save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    given = ",".join(f"{key}={value}".replace(" ", "") for key, value in options.items())
    encoder = build_encoder(f"{spec}:{given}", 5, tmp_path / "weights.safetensors", patch_size=32)
    found, wanted = encoder.model.state_dict(), donor.state_dict()
    resized = [key for key in wanted if "head" not in key and found[key].shape != wanted[key].shape]
    assert all("pos_embed" in key or "relative_position" in key for key in resized)
    assert resized
    for key in wanted.keys() - resized:
        assert "head" in key or torch.equal(found[key], wanted[key])
    if "pos_embed" in resized:
        # Row and column neighbours stay in their places; the class token keeps its own.
        assert torch.equal(found["pos_embed"][:, 0], wanted["pos_embed"][:, 0])
        grid = wanted["pos_embed"][:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
        small = functional.interpolate(grid, (2, 2), mode="bicubic", antialias=True)
        torch.testing.assert_close(found["pos_embed"][:, 1:], small.flatten(2).transpose(1, 2))
    # What is of its own size already stays as it is.
    own = encoder.model.state_dict()
    safetensors.torch.save_file(own, tmp_path / "weights.safetensors")
    again = build_encoder(f"{spec}:{given}", 5, tmp_path / "weights.safetensors", patch_size=32)
    for key, value in again.model.state_dict().items():
        assert torch.equal(value, own[key])


def test_attention_is_counted():
    network = build(VIT)
    width, tokens = 192, 1 + 2 * 2
    layer = tokens * width * width * (4 + 2 * 4) + 2 * tokens * tokens * width
    embedding = 4 * 16 * 16 * 3 * width
    assert (
        count_multiply_adds(network.encode_window, blank_views(network, network.view))
        == layer + embedding
    )


@pytest.mark.parametrize(
    ("spec", "patch_size", "shape"),
    [
        ("vit_small_patch14_reg4_dinov2:depth=1", 28, (384, 2, 2)),
        ("mixer_s32_224", 64, (512, 2, 2)),
        ("xcit_nano_12_p16_224:depth=1", 32, (128, 2, 2)),
        ("mambaout_femto", 64, (288, 2, 2)),
        ("eva02_tiny_patch14_224:depth=1", 28, (192, 2, 2)),
    ],
)
def test_other_families_are_taken(spec, patch_size, shape):
    network = build(spec, patch_size)
    assert network.feature_shape == shape
    assert rows.select(blank_state(network, 2), torch.tensor([1])).logits.shape == (1, 5)


def test_tokens_of_no_whole_number_are_refused():
    with pytest.raises(
        ValueError, match=r"tokens of 16×16 pixels; choose a patch_size that is a mu"
    ):
        build_encoder(VIT, 5, patch_size=40)
    with pytest.raises(ValueError, match="timm cannot build 'vit_tiny_patch16_224': .*retina"):
        build_encoder("vit_tiny_patch16_224:retina=2", 5)


@pytest.mark.parametrize("spec", [VIT, SWIN])
def test_they_are_exported(spec):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = build_encoder(spec, 5, patch_size=32).eval()
    views = noise(3, 32)
    file = io.BytesIO()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        encoder, (views,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for few in (views, views[:1]):
            found = session.run(None, {session.get_inputs()[0].name: few.numpy()})
            for value, wanted in zip(found, encoder(few), strict=True):
                torch.testing.assert_close(torch.from_numpy(value), wanted, atol=1e-4, rtol=1e-4)
