"""Paths as users give them."""

import errno
import os
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """A file or folder that a user names; ``~`` stands for the home folder.

    It need not exist.

    Raises:
        TypeError: It is neither text nor a path.
        ValueError: No file can have this name.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a path must be text or a pathlib.Path, not {path!r}")
    try:
        found = Path(path).expanduser()
        found.lstat()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"no file can be at {path!r} ({error}); give another path") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{str(path)[:40]!r}… is too long for a path; give another") from error
    return found
