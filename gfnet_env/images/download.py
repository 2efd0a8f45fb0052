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

    torchvision takes any folder of the right name for the whole data set. So this downloads into a
    temporary folder and moves what is complete: a failure or a kill leaves nothing that passes for
    the data set.

    Args:
        name: The data set, for messages.
        root: Folder of data sets.
        folder: Of this data set, below ``root``.
        download: Downloads ``folder`` into the folder that it is given.

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
            try:
                os.replace(Path(incomplete) / folder, target)
            except OSError:
                # Another process may have just downloaded it too.
                if not target.is_dir():
                    raise
    except (OSError, RuntimeError, HTTPException) as error:
        raise OSError(
            f"{name} is not in {root} and could not be downloaded ({error}); nothing incomplete is "
            f"kept: try again, or give the folder that holds {folder}/ with --data-root"
        ) from error
