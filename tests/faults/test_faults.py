"""What kills, full disks and folders that cannot be written leave behind.

``python tests/faults/tiny_faults.py --out FILE`` kills at every touch.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("tiny_faults.py")
# The slower an operation is, the fewer of its touches are tried here.
TRIED = ("save:5", "save a new folder:5", "checkpoint:5", "cache a new folder:5", "compare:24")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork")
def test_a_fault_leaves_what_was_there_or_what_is_new(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "faults.json"
    command = [sys.executable, SCRIPT, *TRIED, "--out", out]
    subprocess.run([*map(str, command)], check=True, env=environment)
    for found in json.loads(out.read_text()).values():
        kills = found["kills"]
        assert kills.pop("kills") >= 1
        assert {*kills} <= {"old", "new"}
        refused = {**found["full disks"], **found["read only"]}
        assert {*refused} <= {"done", "reported, old", "reported, new"}
