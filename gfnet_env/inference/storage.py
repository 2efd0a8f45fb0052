"""Assembled networks on disk: a folder that is written as a whole, with digests of its files."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gfnet_env import files
from gfnet_env.exits import ExpectedGain, Signal, confidence
from gfnet_env.inference.budgets import BudgetTable, OperatingPoint
from gfnet_env.models import GlanceFocusNetwork, Model
from gfnet_env.paths import user_path
from gfnet_env.policies.base import Policy
from gfnet_env.policies.storage import load_policy, policy_files
from gfnet_env.settings import checked

if TYPE_CHECKING:
    from gfnet_env.inference.early_exit import EarlyExitGFNet

Assembled = TypeVar("Assembled", bound="EarlyExitGFNet")

_FILE = "gfnet.json"
_GAIN = "gain"
# Digests of the other files; folders of version 0.1 have none.
_FILES = "files_sha256"


def save(gfnet: "EarlyExitGFNet", folder: str | Path) -> None:
    """Write an assembled network, see ``EarlyExitGFNet.save``."""
    try:
        parts = {
            **policy_files(gfnet.policy),
            **_model_files(gfnet.model),
            **_certainty_files(gfnet.certainty),
        }
        content = {
            "thresholds": list(gfnet.thresholds),
            "budgets": [point.to_json() for point in gfnet.budgets.points] if gfnet.budgets else [],
            _FILES: {name: files.sha256(part) for name, part in sorted(parts.items())},
        }
        parts[_FILE] = files.sealed(content)
    except TypeError as error:
        raise ValueError(f"the network cannot be saved as JSON: {error}") from error
    files.replace_files(user_path(folder), parts)


def check_saveable_model(model: Model) -> None:
    """Raise ``ValueError`` unless a model can be part of a saved network."""
    if type(model) is not GlanceFocusNetwork:
        raise ValueError(
            f"{type(model).__name__} cannot be saved: a folder is loaded as a GlanceFocusNetwork; "
            "save its weights yourself, and assemble it anew where you load them"
        )
    model.check_saveable()


def _model_files(model: Model) -> dict[str, bytes]:
    check_saveable_model(model)
    assert isinstance(model, GlanceFocusNetwork)
    return files.module_files(model.file_name, model, dataclasses.asdict(model.config))


def _certainty_files(certainty: Signal) -> dict[str, bytes]:
    if certainty is confidence:
        return {}
    if type(certainty) is not ExpectedGain:
        raise ValueError(
            f"the certainty {certainty!r} cannot be saved: only ExpectedGain and confidence can; "
            "set it again where you load the network"
        )
    return files.module_files(_GAIN, certainty, certainty.config)


def _load_certainty(folder: Path, names: Mapping[str, Any]) -> Signal:
    if f"{_GAIN}.json" not in names:
        return confidence
    gain = files.load_config(folder, _GAIN, ExpectedGain)
    files.load_weights(folder, _GAIN, gain)
    return gain.eval()


def is_assembled(folder: str | Path) -> bool:
    """Whether a folder holds an assembled network."""
    return files.is_file(user_path(folder) / _FILE)


def assembled_in(run: Path) -> Path:
    """The folder of a run's assembled network: the run folder, or its last stage that has one."""
    folders = (run, *(run / f"stage{number}" for number in (3, 2, 1)))
    return next(filter(is_assembled, folders), run)


def load_model(folder: str | Path) -> tuple[GlanceFocusNetwork, Policy | None]:
    """The network in a folder, and its policy if it was assembled with one, onto the CPU.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged or belongs to another save.
    """
    folder = user_path(folder)
    if not is_assembled(folder):
        return GlanceFocusNetwork.load(folder), None
    _check_files(folder, files.load_config(folder, "gfnet"))
    return GlanceFocusNetwork.load(folder), load_policy(folder)


def load(kind: type[Assembled], folder: str | Path) -> Assembled:
    """Read an assembled network, see ``EarlyExitGFNet.load``."""
    folder = user_path(folder)
    saved = files.load_config(folder, "gfnet")
    model, policy = load_model(folder)
    assert policy is not None
    if "thresholds" not in saved:
        raise ValueError(f"{folder / _FILE} has no thresholds; restore it from a copy")
    gfnet = kind(model, policy, certainty=_load_certainty(folder, saved.get(_FILES, {})))
    part = "budgets"
    try:
        points = tuple(map(OperatingPoint.from_json, checked(part, saved.get(part, []), list)))
        for point in points:
            gfnet.set_thresholds(point.thresholds)
        part = "thresholds"
        gfnet.set_thresholds(saved[part])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the {part} in {folder / _FILE} are damaged: {error}; restore it from a copy"
        ) from error
    gfnet.budgets = BudgetTable(points) if points else None
    return gfnet


def _check_files(folder: Path, saved: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless all files of a folder are intact and belong to one save."""
    digests = saved.get(_FILES, {})
    # A file of another folder may be endless, such as a device.
    if not isinstance(digests, dict) or any(Path(name).name != name for name in digests):
        raise ValueError(f"{folder / _FILE} is damaged; restore it from a copy")
    for name, sha256 in digests.items():
        path = folder / name
        if files.sha256(files.read_bytes(path)) != sha256:
            raise ValueError(
                f"{path} is damaged or belongs to another save than the {_FILE} beside it; restore "
                "both from one copy"
            )
