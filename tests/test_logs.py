import importlib.util

import numpy as np
import pytest

from gfnet_env.logs import TRACKERS, RunLog
from gfnet_env.runs import RunControl


def test_trackers_that_cannot_log_are_refused_before_the_work():
    with pytest.raises(ValueError, match="unknown tracker 'excel'; known: csv, mlflow, wandb"):
        RunControl(log=("excel",))
    missing = [each for each in TRACKERS[1:] if importlib.util.find_spec(each) is None]
    for name in missing:
        with pytest.raises(ImportError, match=f"{name} is not installed: pip install "):
            RunControl(log=("csv", name))


def test_wandb_gets_numbers_and_pictures(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with RunLog(tmp_path, ("wandb",), steps=0, settings={"seed": 0}) as log:
        log.add_scalar("train/loss", 0.5, 1)
        log.add_picture("looks", np.zeros((8, 12, 3), dtype=np.uint8), 1)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/looks_1_*.png"))
