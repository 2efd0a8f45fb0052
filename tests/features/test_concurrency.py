"""Two processes that fill one store, one of which is killed.

``GFNET_KILLS=10 pytest tests/features/test_concurrency.py -s`` kills ten times in place of twice,
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

from gfnet_env.perception.geometry import lattice

SCRIPT = Path(__file__).parent / "tiny_filling.py"
# What sums may differ by where an encoder is given another number of images at once.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tiny():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def live(tiny):
    """What must be in the store: a vector for every image and view."""
    network, images = tiny.network(), tiny.images()[:]
    with torch.no_grad():
        glance = network.glance(images)
        places = [location.expand(len(images), 2) for location in lattice(tiny.CELLS)]
        steps = [glance, *(network.focus(images, place, glance) for place in places)]
    features = [torch.cat([step.feature_map.flatten(1), step.vector], dim=1) for step in steps]
    return torch.stack(features, dim=1).flatten(0, 1).numpy()


def check(store, expected):
    """How many records are there, all of which must be right."""
    records, there = store.read(np.arange(len(expected)))
    found = np.ascontiguousarray(records[there]).view(np.float32)
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
    print(f"{kills} kills, {checks} checks of {len(expected)} records while they were written")
