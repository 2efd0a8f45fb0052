"""Write files atomically, alone or several together; save modules to disk."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import safetensors
import safetensors.torch
from torch import Tensor, nn

from gfnet_env.digest import uncompiled_state

_WEIGHTS_DIGEST = "weights_sha256"
# Digest of the rest of a JSON file; files of version 0.1 have none.
_DIGEST = "sha256"
# Holds the current files of the folder around it, until they are moved there.
_COMMITTED = ".committed"
# Names of temporary files and folders begin with the process that writes them.
_TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}-")

Config = TypeVar("Config")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Wrap code that writes ``path``, so that an ``OSError`` names it and says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}. Nothing that was there is lost; "
            "make room or choose another folder",
        ) from error


def check_writable(folder: Path) -> None:
    """Check that files can be written into a folder, which need not exist; leave nothing in it.

    Raises:
        OSError: They cannot; the message names the folder.
    """
    with writing(folder):
        made = next(each for each in (folder, *folder.parents) if each.exists())
        tempfile.TemporaryFile(dir=made).close()


def check_files(*paths: Path | None) -> None:
    """Check that files can be written, before the work for them begins; None is no file.

    Raises:
        OSError: One is a folder, a link or a device, or its folder cannot be written; the message
            names it.
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the name of a file")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            # The new file would take the place of /dev/stdout.
            raise FileExistsError(f"{path} is a link or a device; give the name of a file")
        check_writable(path.parent)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it to ``path``.

    If anything fails on the way (a full disk, a kill), ``path`` keeps its earlier content.

    Raises:
        OSError: The file could not be written; the message names it.
    """
    temporary = _beside(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            _sync(temporary)
            finish_saving(path.parent)
            os.replace(temporary, path)
    finally:
        # If this fails too, the first error says more.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; NaN and infinities, which JSON lacks, are refused."""
    write_bytes(path, json_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    # The name of a file may have bytes that are not text, which Python keeps as surrogates.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a binary file."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files move to ``folder`` together when the context ends.

    A kill at any time leaves all old files or all new ones; an error leaves the old ones. Other
    files of the folder stay. A single rename commits the temporary folder: from then on, readers
    take its files in place of the old ones. Moving the files to their places comes last; if a kill
    prevents that, the next write does it.

    Args:
        folder: Made if missing, with its parents.

    Raises:
        OSError: The files could not be written; the message names the folder.
    """
    temporary = _beside(folder / "files")
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with writing(folder):
            for path in temporary.iterdir():
                _sync(path)
            _sync(temporary)
            finish_saving(folder)
            temporary.rename(folder / _COMMITTED)
            _sync(folder)
            finish_saving(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_files(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write files into a folder, all or none, see ``replacing``.

    Args:
        folder: Made if missing, with its parents.
        content: Content of each file, by name.

    Raises:
        OSError: The files could not be written; the message names the folder.
    """
    with replacing(folder) as temporary, writing(folder):
        for name, data in content.items():
            (temporary / name).write_bytes(data)


def finish_saving(folder: Path) -> None:
    """Complete what killed processes have committed, and remove what they have not.

    Only processes of this machine can be checked for having ended.
    """
    committed = folder / _COMMITTED
    if committed.is_dir():
        for path in sorted(committed.iterdir()):
            os.replace(path, folder / path.name)
        _sync(folder)
        committed.rmdir()
    for path in folder.glob(".*-*-*"):
        process = _TEMPORARY.match(path.name)
        if process is not None and not _is_running(int(process[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether ``read_bytes`` finds a file, which a kill may have kept from being moved there."""
    return any(place.is_file() for place in _places(path))


def read_bytes(path: Path) -> bytes:
    """Read a binary file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    for place in _places(path):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return place.read_bytes()
    raise FileNotFoundError(f"there is no {path.name} in {path.parent}; is it the right folder?")


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Indented JSON, see ``write_json``."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def sealed(content: Mapping[str, Any]) -> bytes:
    """JSON with a digest of its content, which ``load_config`` checks."""
    return json_bytes({**content, _DIGEST: _digest(content)})


def sha256(content: bytes) -> str:
    """The SHA-256 digest of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold a JSON object, or an object in it has a name twice.
    """
    try:
        content = json.loads(
            read_bytes(path), parse_constant=_refuse, object_pairs_hook=_with_names_once
        )
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it from a copy") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of a JSON object")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _with_names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"it has {name!r} twice")
        content[name] = value
    return content


def module_files(name: str, module: nn.Module, config: Mapping[str, Any]) -> dict[str, bytes]:
    """A module as ``NAME.safetensors`` (its weights) and ``NAME.json`` (how to build it).

    The JSON holds digests of the weights and of itself, so that a damaged or mismatched pair is
    noticed.
    """
    state = uncompiled_state(module)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    weights = safetensors.torch.save(tensors)
    described = {**config, _WEIGHTS_DIGEST: sha256(weights)}
    return {f"{name}.safetensors": weights, f"{name}.json": sealed(described)}


def save_module(folder: Path, name: str, module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write ``module_files`` into a folder, both or none."""
    replace_files(folder, module_files(name, module, config))


@overload
def load_config(folder: Path, name: str) -> dict[str, Any]: ...


@overload
def load_config(folder: Path, name: str, kind: type[Config]) -> Config: ...


def load_config(folder: Path, name: str, kind: type[Any] = dict) -> Any:
    """The configuration that ``save_module`` was given.

    Args:
        folder: The folder given to ``save_module``.
        name: The name given to ``save_module``.
        kind: A dataclass, whose ``from_json`` is called if it has one; by default a dict.

    Raises:
        FileNotFoundError: ``folder`` or the file is missing.
        ValueError: The file has other fields, or a value is wrong.
    """
    saved = _read_config(folder, name)
    saved.pop(_WEIGHTS_DIGEST, None)
    try:
        return getattr(kind, "from_json", lambda values: kind(**values))(saved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / name}.json does not describe a {name} ({error}); it may come from another "
            "version of this library"
        ) from error


def load_weights(folder: Path, name: str, module: nn.Module) -> None:
    """Fill ``module`` with the weights that ``save_module`` wrote.

    Raises:
        FileNotFoundError: The weights are missing.
        ValueError: The weights are damaged, or belong to another configuration.
    """
    path = folder / f"{name}.safetensors"
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {path.name} in {folder}; copy it beside {name}.json"
        ) from None
    if sha256(content) != _read_config(folder, name).get(_WEIGHTS_DIGEST):
        raise ValueError(
            f"{path} is damaged or does not belong to the {name}.json beside it; "
            "restore both from the same run"
        )
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a valid safetensors file ({error})") from error
    load_tensors(module, tensors, path)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """``load_state_dict``, with an error that names the file and the first keys that differ."""
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != found:
        differing = [key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key)]
        listed = "; ".join(
            f"{key}: {found.get(key, 'missing')} instead of {wanted.get(key, 'nothing')}"
            for key in differing[:3]
        )
        raise ValueError(
            f"the weights in {path} do not fit this configuration ({len(differing)} tensors "
            f"differ: {listed}); load them with the configuration they were saved with"
        )
    module.load_state_dict(dict(tensors))


def weights_digests(folder: Path) -> dict[str, str]:
    """Digests of all weights that ``save_module`` wrote into a folder, by name."""
    files = [path.with_suffix(".json") for path in sorted(folder.glob("*.safetensors"))]
    configs = {file.stem: read_json(file) for file in files if is_file(file)}
    # The JSON beside the weights of an earlier run has no digest.
    found = {name: config.get(_WEIGHTS_DIGEST) for name, config in configs.items()}
    return {name: digest for name, digest in found.items() if digest is not None}


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one that holds {name}.json")
    path = folder / f"{name}.json"
    try:
        return _opened(path)
    except FileNotFoundError:
        # A run of several stages has one in each; the last is meant.
        inner = sorted(folder.glob(f"*/{name}.json"))
        if not inner:
            raise
        raise FileNotFoundError(
            f"there is no {path.name} in {folder}, but in {inner[-1].parent}; give that folder"
        ) from None


def _opened(path: Path) -> dict[str, Any]:
    """What was ``sealed`` into a file, without the digest."""
    content = read_json(path)
    digest = content.pop(_DIGEST, None)
    if digest is not None and digest != _digest(content):
        raise ValueError(
            f"{path} is damaged, or was changed after it was saved; restore it from a copy"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def _places(path: Path) -> tuple[Path, Path]:
    """Where a file may be, the newer one first."""
    return path.parent / _COMMITTED / path.name, path


def _beside(path: Path) -> Path:
    """A new name for a temporary file or folder."""
    # A part of the name, which may be as long as the system allows; it ends as files of its kind.
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}-{path.name[-32:]}")


def _is_running(process: int) -> bool:
    """Whether a process of this machine runs. Always True on Windows, where asking would end it."""
    try:
        if os.name != "nt":
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
