"""A training of seconds, in a process of its own that can kill itself at any moment.

python tiny_training.py RUN [--resume] [--kill-at READ SECONDS] [--set FIELD=VALUE …]

Of several processes the second is the one that is killed.
"""

import argparse
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import torch

from gfnet_env.images import ArrayImages
from gfnet_env.training import ClassifierConfig, train_classifier


class DeadlyImages(ArrayImages):
    """Images at whose n-th read the process is killed, some time later."""

    def __init__(self, kill_at=None, **arrays):
        super().__init__(**arrays)
        self._left, self._seconds = kill_at or (-1, 0.0)

    def prefetch(self, indices):
        self._left -= 1
        if self._left == 0:
            kill = (os.getpid(), signal.SIGKILL)
            threading.Timer(self._seconds, os.kill, kill).start()


def images(kill_at=None, count=44):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 24, 24), dtype=np.uint8)
    corners = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corners, corners + 8], axis=1)
    return DeadlyImages(kill_at, pixels=pixels, labels=np.arange(count) % 3, boxes=boxes)


def config(run, **changes):
    sizes = {"epochs": 3, "batch_size": 8, "patch_size": 12, "focus_steps": 2}
    options = {"object_share": 0.3, "flip": True, "average_decay": 0.8, "device": "cpu"}
    values = {"run": Path(run), "checkpoint_minutes": 0.0, **sizes, **options}
    return ClassifierConfig.of(**values | changes)


def train(run, kill_at=None, **changes):
    """Train a network of random weights on noise: 18 steps, a checkpoint after each."""
    sets = {"train": images(kill_at), "val": images(count=10), "test": images(count=10)}
    return train_classifier(config(run, **changes), sets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", nargs=2, type=float)
    parser.add_argument("--set", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kill_at = arguments.kill_at if os.environ.get("RANK", "1") == "1" else None
    changes = {key: json.loads(value) for key, value in (x.split("=") for x in arguments.set)}
    changes = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
    train(arguments.run, kill_at, resume=arguments.resume, **changes)
