"""Pictures of every shape, from the command line: none is cropped, none is held whole for long."""

import numpy as np
import pytest
from PIL import Image

from gfnet_env.images import load_images
from gfnet_env.models import GlanceFocusNetwork

# Height and width; the last is larger, decoded, than --memory-gib allows.
SIZES = ((1130, 460), (460, 1130), (3000, 200), (97, 97), (2400, 1800))
MEMORY_GIB = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tree of splits and classes, every class with a picture of every size."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for row, (height, width) in enumerate(SIZES):
                pixels = rng.integers(0, 100, (height // 8, width // 8, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels + np.uint8(120 * number))
                picture = picture.resize((width, height), Image.Resampling.NEAREST)
                picture.save(root / split / name / f"{row}.jpg")
    return root


def test_pictures_of_every_shape_train_evaluate_and_classify(folder, tmp_path, run):
    images = ("--images", f"folder:{folder}", "--memory-gib", MEMORY_GIB, "--device", "cpu")
    small = ("--patch-size", 32, "--focus-steps", 2, "--epochs", 1, "--batch-size", 5)
    run("train_classifier.py", *images, *small, "--run", tmp_path / "network")
    trained_on = GlanceFocusNetwork.load(tmp_path / "network").trained_on
    assert (trained_on.fit, trained_on.image_size) == ("whole", None)
    policy = ("--network", tmp_path / "network", "--run", tmp_path / "policy")
    short = ("--timesteps", 24, "--num-envs", 4, "--oracle-images", 0, "--curve-points", 0)
    run("train_policy.py", *images, *policy, *short)
    evaluated = run("evaluate.py", "--run", tmp_path / "policy", *images[2:])
    assert "results.json" in evaluated
    pictures = sorted((folder / "test" / "light").iterdir())
    answer = run("classify.py", "--run", tmp_path / "policy", "--device", "cpu", *pictures)
    assert [line.partition(":")[0] for line in answer.splitlines()] == [*map(str, pictures)]


def test_each_picture_keeps_its_size(folder):
    images = load_images(f"folder:{folder}", "test", memory_limit=int(MEMORY_GIB * 2**30))
    sizes = images.sizes(np.arange(len(images))).tolist()
    assert sizes == [list(size) for size in SIZES] * 2
    assert 3 * np.prod(SIZES[-1]) > MEMORY_GIB * 2**30
