import json
import sys

import pytest

from gfnet_env.benchmarks.memory import MemoryConfig, measure_memory
from gfnet_env.benchmarks.results import Memory
from gfnet_env.zoo import DEFAULT, FOLDER

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="peak memory is measured on Linux only"
)


def test_memory_does_not_grow_with_the_image(tmp_path):
    out = tmp_path / "memory.json"
    config = MemoryConfig(run=FOLDER / DEFAULT, resolutions=(64, 1024), static=False, out=out)
    results = measure_memory(config)
    work = [row.gfnet.peak - row.gfnet.idle for row in results.rows]
    # A copy of the larger image would be 3 MiB in bytes and 12 in floats.
    assert abs(work[1] - work[0]) < 2
    assert results.variation < 0.1
    assert Memory.from_json(json.loads(out.read_text())) == results


def test_a_process_that_fails_leaves_its_message(capsys):
    config = MemoryConfig(run=FOLDER / DEFAULT, resolutions=(16,), static=False)
    results = measure_memory(config)
    assert "smaller than the patch" in results.rows[0].gfnet.error
    assert results.variation is None
    assert "failed" in capsys.readouterr().out


def test_wrong_input(tmp_path):
    with pytest.raises(ValueError, match="resolutions must name at least one"):
        MemoryConfig(run=tmp_path, resolutions=())
    with pytest.raises(ValueError, match="resolutions.* must be at least 1, not 0"):
        MemoryConfig(run=tmp_path, resolutions=(0,))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        measure_memory(MemoryConfig(run=tmp_path / "missing"))
