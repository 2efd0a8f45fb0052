import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCRIPT = Path(__file__).with_name("tiny_training.py")


class TinyTraining:
    """The tiny training, in this process or others."""

    def __init__(self):
        spec = importlib.util.spec_from_file_location("tiny_training", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.images, self.config, self.train = module.images, module.config, module.train

    def launch(self, run, *arguments, launcher=()):
        """Train elsewhere; the exit status."""
        # The library that is tested, wherever another may be installed.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, *launcher, SCRIPT, run, *arguments]
        code = subprocess.run([*map(str, command)], check=False, env=environment).returncode
        # TensorBoard orders its files by the second in which they were begun.
        time.sleep(1)
        return code

    @staticmethod
    def losses(run):
        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        return [(event.step, event.value) for event in events.Scalars("train/loss")]


@pytest.fixture(scope="package")
def tiny():
    return TinyTraining()
