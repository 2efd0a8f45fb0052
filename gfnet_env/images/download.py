"""Downloads that are either complete or absent."""

import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path


def ensure_downloaded(
    name: str, root: Path, folder: str, download: Callable[[Path], object]
) -> None:
    """Download a data set unless it is present.

    torchvision takes any folder of the right name for the complete data set. So this function
    downloads into a temporary folder and moves the result when it is complete. After a failure or a
    kill, nothing is left that could be mistaken for the data set.

    Args:
        name: Name of the data set, for messages.
        root: Folder of data sets.
        folder: Folder of this data set, below ``root``.
        download: Function that downloads ``folder`` into a given folder.

    Raises:
        OSError: The data set is missing and could not be downloaded, unpacked or written.
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
