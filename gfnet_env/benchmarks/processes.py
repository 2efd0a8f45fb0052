"""Measurements in a process of their own, with its memory."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

MIB = 2**20


def in_a_process(module: str, *arguments: object) -> Any:
    """What a module prints as JSON when it runs in a fresh process with some arguments.

    Raises:
        RuntimeError: It failed; the message is the last line that it wrote.
    """
    # -P: import the library that runs here, not a module of the working directory.
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode:
        message = process.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(message or f"ended by signal {-process.returncode}")
    return json.loads(process.stdout)


def begin_peak() -> int:
    """Forget the peak so far; returns the resident memory now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        sys.exit(f"peak memory can only be measured on Linux ({error})")
    return peak_bytes()


def peak_bytes() -> int:
    """Most resident memory this process has had since ``begin_peak``."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, flags=re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
