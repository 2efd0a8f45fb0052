import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    # Commands decide how errors are shown, for their process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script as if from the command line; what it printed."""

    def run_script(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        return capsys.readouterr().out

    return run_script
