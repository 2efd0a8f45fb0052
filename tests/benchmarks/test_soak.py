import json

import pytest
from PIL import Image

from gfnet_env.benchmarks import SoakConfig, soak
from gfnet_env.benchmarks.soak import Soak


def test_a_long_use_is_sampled_from_begin_to_end(tmp_path, capsys):
    config = SoakConfig(out=tmp_path, steps=2_000, predictions=20, num_envs=16, samples=4)
    found = soak(config)
    assert [each.count for each in found.steps] == [0, 512, 1008, 1504, 2000]
    assert [each.count for each in found.predictions] == [0, 5, 10, 15, 20]
    for samples in (found.steps, found.predictions):
        assert all(each.memory > 10 for each in samples)
        assert len({(each.descriptors, each.threads) for each in samples[1:]}) == 1
    assert "2,000 steps: memory" in capsys.readouterr().out
    assert Soak.from_json(json.loads((tmp_path / "results.json").read_text())) == found
    with Image.open(tmp_path / "soak.png") as drawn:
        assert drawn.size[0] > 500
    with pytest.raises(FileExistsError, match="already exists"):
        soak(config)
