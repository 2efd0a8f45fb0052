"""Downloads that are either whole or not there."""

import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path


def ensure_downloaded(
    name: str, root: Path, folder: str, download: Callable[[Path], object]
) -> None:
    """Download a data set unless it is there.

    torchvision checks its archives, but takes any folder of the right name for all that was in one.
    So this unpacks in a folder of its own, and moves what is complete to where it belongs: what a
    failure, an interrupt or a kill leaves behind is never taken for the data set.

    Args:
        name: What messages call it.
        root: Folder of data sets.
        folder: What the data set is called below ``root``.
        download: Downloads it to below the folder that it is given.

    Raises:
        OSError: It is not there and could not be downloaded, unpacked or written.
    """
    target = root / folder
    if target.exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".incomplete-{folder}-", dir=root) as incomplete:
            download(Path(incomplete))
            _move(Path(incomplete) / folder, target)
    except (OSError, RuntimeError, HTTPException) as error:
        raise OSError(
            f"{name} is not in {root} and could not be downloaded ({error}); nothing incomplete is "
            f"kept: try again, or give the folder that holds {folder}/ with --data-root"
        ) from error


def _move(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError:
        # Another process has just downloaded it too.
        if not target.is_dir():
            raise
