"""Two processes that fill one store, one of which is killed.

``GFNET_KILLS=10 pytest tests/features/test_concurrency.py -s`` kills ten times instead of twice,
and at other moments with another ``GFNET_KILL_SEED``.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gfnet_env.features import LiveFeatures
from gfnet_env.looks import Look, lattice

SCRIPT = Path(__file__).parent / "tiny_filling.py"
# What sums may differ by where an encoder is given another number of views at once.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tiny():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def live(tiny):
    """What must be in the store: a vector for every image and view."""
    features, indices = LiveFeatures(tiny.network(), tiny.images()), np.arange(12)
    looks = [Look.at(location.expand(12, 2)) for location in lattice(tiny.CELLS)]
    with torch.no_grad():
        seen = [features.overview(indices), *(features.window(indices, each) for each in looks)]
    views = [torch.cat([each.map.flatten(1), each.vector], dim=1) for each in seen]
    return torch.stack(views, dim=1).flatten(0, 1).numpy()


def check(store, expected):
    """How many entries are there, all of which must be right."""
    entries, there = store.read(np.arange(len(expected)))
    found = np.ascontiguousarray(entries[there]).view(np.float32)[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected[there], atol=TOLERANCE, rtol=TOLERANCE)
    return int(there.sum())


def test_a_store_that_two_fill_is_never_wrong(tiny, tmp_path):
    kills = os.environ.get("GFNET_KILLS", "2")
    seed = os.environ.get("GFNET_KILL_SEED", "0")
    expected = live(tiny)
    store = tiny.features(tmp_path).store
    command = [sys.executable, str(SCRIPT), str(tmp_path), kills, seed]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        checks = 0
        while process.poll() is None:
            check(store, expected)
            checks += 1
        printed = process.stdout.read()
    assert process.returncode == 0
    assert printed.splitlines() == ["killed: -9"] * int(kills)
    assert check(store, expected) == len(expected)
    print(f"{kills} kills, {checks} checks of {len(expected)} entries while they were written")
