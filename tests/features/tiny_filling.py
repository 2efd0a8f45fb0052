"""Processes that fill one store at once, some of which are killed.

python tiny_filling.py STORE KILLS SEED

One process writes the same entries again and again until the others are dead, then completes the
store. Each of the others writes them too, and is killed at a random moment.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from gfnet_env import ArrayImages, GlanceFocusNetwork
from gfnet_env.features import CachedFeatures
from gfnet_env.features.store import EntryStore

CELLS = 3


class ForgetfulStore(EntryStore):
    """Nothing is ever there, so that it is computed and written again."""

    def read(self, numbers):
        entries, there = super().read(numbers)
        return entries, np.zeros_like(there)


def images():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 24, 32), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(12) % 5)


def network():
    torch.manual_seed(0)
    return GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, focus_steps=2
    ).eval()


def features(folder, forgetful=False):
    served = CachedFeatures(network(), images(), cells=CELLS, folder=folder)
    if forgetful:
        served.store.__class__ = ForgetfulStore
    return served


def fork(work):
    """A child process that does ``work``."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def write_until(folder, ending):
    served = features(folder, forgetful=True)
    while not Path(ending).exists():
        for start in range(0, 12, 4):
            # Of another size than those of the other processes, which may change the last bits.
            served.fill(np.arange(start, start + 4), batch_size=7)
    features(folder).fill(np.arange(12))


def write_for_ever(folder, begun):
    served = features(folder, forgetful=True)
    while True:
        served.fill(np.random.default_rng().permutation(12)[:3], batch_size=16)
        os.write(begun, b".")


def kill_one(folder, rng):
    reading, begun = os.pipe()
    child = fork(lambda: write_for_ever(folder, begun))
    os.read(reading, 1)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    print("killed:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os.close(reading)
    os.close(begun)


if __name__ == "__main__":
    torch.set_num_threads(1)
    store, kills, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    steady = fork(lambda: write_until(store, store + ".end"))
    rng = random.Random(seed)
    for _ in range(kills):
        kill_one(store, rng)
    Path(store + ".end").touch()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(steady, 0)[1]))
