import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gfnet_env import EarlyExitGFNet, load_official
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.encoders import build_encoder
from gfnet_env.images import load_images

REFERENCES = Path(__file__).parents[2].parent / "shared" / "official"
REFERENCED = ["densenet121", "efficientnet_b2", "mobilenetv3_large_100", "regnety_600m", "resnet50"]
PARTS = {
    "model_prime_state_dict": "model_prime",
    "model_state_dict": "model",
    "fc": "fc",
    "policy": "policy",
}


def tensor(name, shape):
    """The values that the rule of the references gives to a tensor."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        weight = name.endswith("weight")
        values = rng.uniform(0.5, 1.5, shape) if weight else 0.1 * rng.standard_normal(shape)
    else:
        values = np.sqrt(1 / np.prod(shape[1:])) * rng.standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("architecture", REFERENCED)
def test_logits_and_actions_are_those_of_the_authors(architecture, tmp_path):
    path = REFERENCES / f"{architecture}.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    described = json.loads(path.read_text())
    shapes = described["state_dict_shapes"]
    prefix = "module." if architecture == "resnet50" else ""
    checkpoint = {
        "model_name": architecture,
        "patch_size": described["patch_size"],
        "flops": [1.0] * described["T"],
    }
    for part, name in PARTS.items():
        wrapper = prefix if part.startswith("model") else ""
        checkpoint[part] = {
            wrapper + key: tensor(f"{name}.{key}", shape) for key, shape in shapes[part].items()
        }
    torch.save(checkpoint, tmp_path / "checkpoint.pth.tar")
    del checkpoint
    gfnet = load_official(tmp_path / "checkpoint.pth.tar")
    (tmp_path / "checkpoint.pth.tar").unlink()
    size = described["image_size"]
    pixels = np.random.default_rng(7).standard_normal((2, 3, size, size)).astype(np.float32)
    predictions = list(gfnet.anytime(torch.from_numpy(pixels), normalised=True))
    with np.load(path.with_suffix(".npz")) as expected:
        logits = torch.stack([prediction.logits for prediction in predictions])
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-4, rtol=0)
        actions = (predictions[-1].locations.transpose(0, 1) + 1) / 2
        np.testing.assert_allclose(actions, expected["actions"], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def checkpoint():
    """What the authors' MobileNetV3 of width 1.25 would be saved as, for five classes."""
    torch.manual_seed(0)
    states = [build_encoder("mobilenetv3_large_125", 5).model.state_dict() for _ in range(2)]
    heads = {f"fc_{views}": nn.Linear(views * 1280, 5) for views in (2, 3, 4, 5)}
    policy = nn.ModuleDict(
        {
            "state_encoder": nn.Sequential(
                nn.Conv2d(1200, 32, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16)
            ),
            "gru": nn.GRU(16, 16),
            "actor": nn.Sequential(nn.Linear(16, 2)),
            "critic": nn.Sequential(nn.Linear(16, 1)),
        }
    )
    return {
        "model_name": "mobilenetv3_large_125",
        "patch_size": 64,
        # Results may be numpy's, which takes no code to load.
        "flops": list(np.arange(3.0)),
        "results": np.zeros((2, 3)),
        "model_prime_state_dict": {f"module.{key}": value for key, value in states[0].items()},
        "model_state_dict": states[1],
        "fc": nn.ModuleDict(heads).state_dict(),
        "policy": policy.state_dict(),
    }


def test_an_official_network_is_one_like_any_other(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "checkpoint.pth.tar")
    gfnet = load_official(tmp_path / "checkpoint.pth.tar")
    assert gfnet.model.focus_steps == 2
    assert gfnet.model.config.interpolation == "bicubic"
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    images = torch.randint(0, 256, (3, 3, 80, 90), dtype=torch.uint8)
    encoder = gfnet.model.global_encoder
    normalised = (images - encoder.mean) / encoder.std
    steps = zip(
        gfnet.anytime(images),
        loaded.anytime(images),
        gfnet.anytime(normalised, normalised=True),
        strict=True,
    )
    for step, again, floats in steps:
        assert torch.equal(step.logits, again.logits)
        torch.testing.assert_close(step.logits, floats.logits, atol=1e-4, rtol=1e-4)
    prediction = gfnet(normalised, normalised=True)
    assert torch.equal(prediction.locations, floats.locations)
    changed = load_official(tmp_path / "checkpoint.pth.tar", interpolation="bilinear")
    assert changed.model.config.interpolation == "bilinear"


def test_an_official_network_is_evaluated_on_a_folder_without_a_test_split(checkpoint, tmp_path):
    path = tmp_path / "model.pth.tar"
    torch.save(checkpoint, path)
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in "abcde":
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 256, (300, 270, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    config = EvaluationConfig.of(
        official=path,
        images=f"folder:{tmp_path / 'pictures'}",
        calibration_images=15,
        budgets=3,
    )
    results = evaluate(config)
    assert (results.split, results.images) == ("val", 10)
    assert (results.calibration_split, results.calibration_images) == ("train", 15)
    assert len(results.anytime) == 3
    assert (tmp_path / "model-evaluation" / "results.json").is_file()
    seen = config.images.open(config.load_gfnet().model, "val")[[0]]
    spec = config.images.images
    whole = load_images(spec, "val", image_size=256, fit="crop")[[0]]
    assert torch.equal(seen, whole[:, :, 16:240, 16:240])
    with pytest.raises(ValueError, match="either a run or an official checkpoint"):
        EvaluationConfig(official=path, run=tmp_path)


def test_the_val_of_imagenet_is_part_of_what_the_authors_trained_on(checkpoint, tmp_path):
    path = tmp_path / "model.pth.tar"
    torch.save(checkpoint, path)
    numbers = [f"n0000000{number}" for number in range(5)]
    meta = ({number: (number,) for number in numbers}, numbers)
    torch.save(meta, tmp_path / "meta.bin")
    picture = Image.fromarray(np.zeros((70, 60, 3), dtype=np.uint8))
    for split, count in (("train", 20), ("val", 2)):
        for number in numbers:
            folder = tmp_path / split / number
            folder.mkdir(parents=True)
            for name in range(count):
                picture.save(folder / f"{split}_{name}.JPEG")
    config = EvaluationConfig.of(official=path, data_root=tmp_path, calibration_images=7, budgets=2)
    results = evaluate(config)
    assert (results.split, results.images) == ("test", 10)
    assert (results.calibration_split, results.calibration_images) == ("train", 7)


def test_what_is_no_official_checkpoint_is_named(checkpoint, tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*checkpoint\.pth\.tar"):
        load_official(path)
    for change, message in (
        ({"policy": None, "fc": None}, "not a released checkpoint of GFNet: it has no fc, policy"),
        ({"model_name": "vgg16"}, "unknown model 'vgg16'; known: resnet50, densenet121"),
        ({"model_name": Path("resnet50")}, "loading those would run code, so it is refused"),
        ({"flops": [1.0]}, "has 1 steps"),
        ({"flops": 3}, "flops in .* is 3, not a list"),
        ({"model_name": ["resnet50"]}, r"unknown model \['resnet50'\]"),
        ({"policy": {"weight": 3}}, "policy in .* is not a state dict"),
        ({"policy": {"weight": torch.ones(1)}}, "unknown policy: weight"),
        ({"fc": {"weight": torch.ones(1)}}, "unknown classifier: weight"),
        ({"model_name": "mobilenetv3_large_100"}, r"weights in .*checkpoint\.pth\.tar do not fit"),
    ):
        torch.save(checkpoint | change, path)
        with pytest.raises(ValueError, match=message):
            load_official(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_official(path)
