import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from gfnet_env.images import DEFAULT_SPEC
from gfnet_env.pretrained import FOLDER, packaged_network

ROOT = Path(__file__).parent.parent


def test_deploying_needs_no_training_library():
    code = (
        "import sys, gfnet_env, gymnasium;"
        "gymnasium.make('gfnet_env/GlanceFocus-v0').reset(seed=0);"
        "loaded = [name for name in sys.modules if 'stable_baselines3' in name]; assert not loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "script", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.stem
)
def test_scripts_explain_themselves(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert f"python experiments/{script.name}" in capsys.readouterr().out


def test_the_packaged_network_is_small_and_says_how_it_came_about():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 3 * 2**20
    trained_on = packaged_network().trained_on
    assert trained_on.images == DEFAULT_SPEC
    assert trained_on.seed == 0
    assert len(trained_on.commit) == 40
    assert len(trained_on.accuracy["target"]) == 4
