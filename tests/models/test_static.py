import json

import pytest
import torch

from gfnet_env.models import (
    StaticConfig,
    StaticNetwork,
    TrainingData,
    count_multiply_adds,
    load_static_networks,
    static_multiply_adds,
)


def build(**config):
    torch.manual_seed(0)
    defaults = {"encoder": "compact", "resolution": 16, "num_classes": 5}
    return StaticNetwork(StaticConfig(**defaults | config)).eval()


def test_it_classifies_overviews(tiny_images):
    network = build(interpolation="bicubic")
    views = tiny_images.overview([3, 1], network.view)
    with torch.no_grad():
        vector = network.encoder(views).vector
        assert torch.equal(network(views), network.encoder.head(vector))
    with pytest.raises(ValueError, match=r"must be \(B, 3, 16, 16\), not \(12, 3, 24, 32\)"):
        network(tiny_images[:])
    assert static_multiply_adds(network) == count_multiply_adds(network, views[:1])


def test_it_is_saved_and_loaded(tiny_images, tmp_path):
    trained_on = TrainingData(images="folder:x", image_seed=3)
    networks = [
        build(resolution=side, class_names=tuple("abcde"), trained_on=trained_on)
        for side in (24, 16)
    ]
    for network in networks:
        network.save(tmp_path / str(network.config.resolution))
    rows = {"static": [{"resolution": 24}, {"resolution": 16}]}
    (tmp_path / "results.json").write_text(json.dumps(rows))
    loaded = load_static_networks(tmp_path)
    assert [each.config for each in loaded] == [each.config for each in reversed(networks)]
    views = tiny_images.overview(slice(None), 16)
    with torch.no_grad():
        assert torch.equal(loaded[0](views), networks[1](views))
    assert loaded[0].trained_on == trained_on
    # As 0.1 wrote it.
    path = tmp_path / "16" / "static.json"
    saved = json.loads(path.read_text())
    later = ("trained_on", "aspect", "sha256")
    saved = {key: value for key, value in saved.items() if key not in later}
    path.write_text(json.dumps(saved | {"metadata": {"images": "folder:x", "image_seed": 3}}))
    assert StaticNetwork.load(tmp_path / "16").trained_on == trained_on
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no static networks"):
        load_static_networks(tmp_path)


def test_it_may_be_made_of_tokens():
    network = build(encoder="vit_tiny_patch16_224:depth=1", resolution=48)
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape == (2, 5)


def test_impossible_ones_are_refused():
    with pytest.raises(ValueError, match="resolution must be at least 1, not 0"):
        build(resolution=0)
    with pytest.raises(ValueError, match="interpolation must be bilinear or bicubic"):
        build(interpolation="nearest")
    with pytest.raises(ValueError, match="1 class names were given for 5 classes"):
        build(class_names=("one",))


@pytest.mark.parametrize("rows", [3, [3], [{}], "x", {"resolution": 16}, [{"resolution": 10**400}]])
def test_results_that_list_no_networks_are_named(tmp_path, rows):
    (tmp_path / "results.json").write_text(json.dumps({"static": rows}))
    with pytest.raises(ValueError, match=r"results\.json does not list static networks"):
        load_static_networks(tmp_path)
