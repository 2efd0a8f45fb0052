import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gfnet_cli.main import main
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.inference import calibrate
from gfnet_env.policies import LearnedPolicy

SCRIPTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    # Commands decide how errors are shown, and where modules are found, for their process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script as if from the command line; what it printed."""

    def run_script(script, *arguments):
        monkeypatch.setattr(sys, "argv", [f"experiments/{script}", *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture
def gfnet(capsys):
    """Runs ``gfnet`` as if from the command line; its exit status and what it printed."""

    def run_command(*arguments):
        capsys.readouterr()
        status = 0
        try:
            main([*map(str, arguments)])
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            # As Python does.
            sys.excepthook(*sys.exc_info())
            status = 1
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run_command


@pytest.fixture
def assembled(digits, tmp_path):
    """A small network with a policy, saved in the folder ``run``."""
    torch.manual_seed(0)
    encoder = "compact:widths=[8,16],strides=[2,2]"
    network = GlanceFocusNetwork.build(encoder=encoder, patch_size=32, num_classes=10).eval()
    policy = LearnedPolicy.for_model(network, (16,))
    gfnet = EarlyExitGFNet(network, policy, [0.9, 0.9, 0.9, 0])
    calibrate(gfnet, digits)
    gfnet.save(tmp_path / "run")
    return gfnet
