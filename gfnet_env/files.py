"""Files that are either whole or not there: atomic writes, and modules as safetensors + JSON."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor, nn

_DIGEST = "weights_sha256"

Config = TypeVar("Config")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it to ``path``.

    Whatever fails on the way (a full disk, a kill), ``path`` holds what it held before.

    Raises:
        OSError: The file could not be written; the message names it.
    """
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            os.replace(temporary, path)
    finally:
        # Where even this fails, what failed before says more.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a file so that nothing is lost where it fails.

    Raises:
        OSError: Instead of one that does not name the file or say what to do.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}. Nothing that was there is lost; "
            "make room or choose another folder",
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; NaN and infinities, which JSON lacks, are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a binary file."""
    write_atomically(path, lambda temporary: _write_durably(temporary, content))


def _write_durably(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path.name} in {path.parent}; is it the right folder?"
        )
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it from a copy") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of a JSON object")
    return content


def save_module(folder: Path, name: str, module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a module as ``NAME.safetensors`` (its weights) and ``NAME.json`` (how to build it).

    The JSON holds a digest of the weights, so that a damaged or mismatched pair is noticed.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    content = safetensors.torch.save(tensors)
    write_bytes(folder / f"{name}.safetensors", content)
    digest = hashlib.sha256(content).hexdigest()
    write_json(folder / f"{name}.json", {**config, _DIGEST: digest})


def load_config(folder: Path, name: str) -> dict[str, Any]:
    """The configuration that ``save_module`` was given.

    Raises:
        FileNotFoundError: ``folder`` or the file is missing.
    """
    config = _read_config(folder, name)
    config.pop(_DIGEST, None)
    return config


def load_dataclass(folder: Path, name: str, kind: type[Config]) -> Config:
    """The configuration that ``save_module`` was given, as the dataclass that it was.

    Raises:
        FileNotFoundError: ``folder`` or the file is missing.
        ValueError: The file has other fields.
    """
    saved = load_config(folder, name)
    # JSON has no tuples.
    saved = {key: tuple(item) if isinstance(item, list) else item for key, item in saved.items()}
    try:
        return kind(**saved)
    except TypeError as error:
        raise ValueError(
            f"{folder / name}.json does not describe a {name} ({error}); it may come from another "
            "version of this library"
        ) from error


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one that holds {name}.json")
    return read_json(folder / f"{name}.json")


def weights_digests(folder: Path) -> dict[str, str]:
    """Digests of all weights that ``save_module`` wrote into a folder, by name."""
    files = [path.with_suffix(".json") for path in sorted(folder.glob("*.safetensors"))]
    configs = {file.stem: read_json(file) for file in files if file.is_file()}
    # What was left from before has no digest in the JSON beside it.
    return {name: config[_DIGEST] for name, config in configs.items() if _DIGEST in config}


def load_weights(folder: Path, name: str, module: nn.Module) -> None:
    """Fill ``module`` with the weights that ``save_module`` wrote.

    Raises:
        FileNotFoundError: The weights are missing.
        ValueError: They are damaged, or belong to another configuration.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {folder}; copy it beside {name}.json")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _read_config(folder, name).get(_DIGEST):
        raise ValueError(
            f"{path} is damaged or does not belong to the {name}.json beside it; "
            "restore both from the same run"
        )
    load_tensors(module, _parse(content, path), path)


def _parse(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a valid safetensors file ({error})") from error


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
