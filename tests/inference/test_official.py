import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_env import EarlyExitGFNet, load_official

REFERENCES = Path(__file__).parents[2].parent / "shared" / "official"
REFERENCED = (
    *("densenet121", "efficientnet_b2", "mobilenetv3_large_100", "regnety_600m", "resnet50"),
)
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
