"""ONNX Runtime for browsers, from the npm registry."""

import base64
import hashlib
import io
import os
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from gfnet_env.files import is_file, read_bytes, replace_files

VERSION = "1.30.0"
REGISTRY = "https://registry.npmjs.org"
_ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
# As the registry states it.
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def runtime_files(archive: Path | None = None) -> dict[str, bytes]:
    """The files of the runtime that a page needs, by name.

    Args:
        archive: The package as ``npm pack`` writes it; by default it is downloaded once.

    Raises:
        FileNotFoundError: There is no such archive.
        OSError: It cannot be downloaded.
        ValueError: The archive is damaged, or of another version.
    """
    if archive is None:
        archive = _cache() / _ARCHIVE
        if not is_file(archive):
            replace_files(archive.parent, {archive.name: _download()})
    content = read_bytes(archive)
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != _SHA512:
        raise ValueError(
            f"{archive} is damaged or no onnxruntime-web {VERSION}; remove it, or make it by "
            f"npm pack onnxruntime-web@{VERSION}"
        )
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        for name in _FILES:
            file = package.extractfile(f"package/dist/{name}")
            assert file is not None
            found[name] = file.read()
    return found


def _cache() -> Path:
    """The folder for what can be downloaded again, see XDG's Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gfnet-env"


def _download() -> bytes:
    url = f"{REGISTRY}/onnxruntime-web/-/{_ARCHIVE}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310, the scheme is ours
            content: bytes = answer.read()
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{url} cannot be downloaded ({error}); try again, or download it elsewhere and give "
            "it with --runtime"
        ) from error
    return content
