"""Policies on disk: arguments as JSON, weights as safetensors."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gfnet_env import files
from gfnet_env.contracts import explained
from gfnet_env.paths import user_path
from gfnet_env.policies.base import POLICIES, Policy
from gfnet_env.policies.learned import LearnedPolicy
from gfnet_env.policies.oracle import OraclePolicy
from gfnet_env.policies.target import TargetPolicy

_NAME = "policy"
_RESTORE = "; restore it from a copy"


def check_saveable(policy: Policy) -> None:
    """Raise ``ValueError`` unless ``save_policy`` can save this policy."""
    if isinstance(policy, TargetPolicy | OraclePolicy):
        raise ValueError(
            f"{type(policy).__name__} cannot be saved: it is told what no deployed network knows"
        )
    if not isinstance(getattr(policy, "config", None), Mapping) or not inspect.isclass(
        POLICIES.find(_spec(policy))
    ):
        raise ValueError(
            f"{type(policy).__name__} cannot be saved: give it an attribute config, a dict of the "
            "arguments that make it again, or save its weights yourself"
        )


def save_policy(policy: Policy, folder: Path) -> None:
    """Write ``policy_files`` into a folder, all or none; raises like ``check_saveable``."""
    files.replace_files(folder, policy_files(policy))


def policy_files(policy: Policy) -> dict[str, bytes]:
    """``policy.json`` and, for a module, ``policy.safetensors``; raises like ``check_saveable``."""
    check_saveable(policy)
    config = {"name": _spec(policy), "arguments": policy.config}  # type: ignore[attr-defined]
    if isinstance(policy, nn.Module):
        return files.module_files(_NAME, policy, config)
    return {f"{_NAME}.json": files.json_bytes(config)}


def load_policy(folder: Path) -> Policy:
    """Load a policy that ``save_policy`` wrote, onto the CPU and in evaluation mode.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged, or names an unknown policy or one that is not imported.
    """
    folder = user_path(folder)
    saved = files.load_config(folder, _NAME)
    name, arguments = saved.get("name"), saved.get("arguments", {})
    where = folder / f"{_NAME}.json"
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"{where} does not describe a policy{_RESTORE}")
    with explained(f"the policy in {where} cannot be built", _RESTORE):
        target = POLICIES.find(name, trusted=False)
        if target is LearnedPolicy:
            arguments = {**_arguments(arguments, folder), "trusted": False}
        policy: Policy = target(**arguments)
    if isinstance(policy, nn.Module):
        files.load_weights(folder, _NAME, policy)
        policy.eval()
    return policy


def _arguments(saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The arguments of a learned policy; version 0.1 kept some of them in the network beside it."""
    if "feature_shape" not in saved:
        return dict(saved)
    network = files.read_json(folder / "network.json")
    return LearnedPolicy.arguments_of_01(saved, network["focus_steps"], network["patch_size"])


def _spec(policy: Policy) -> str:
    """The spec of a policy's class."""
    kind = type(policy)
    names = (name for name in POLICIES if POLICIES.find(name) is kind)
    return next(names, f"{kind.__module__}:{kind.__qualname__}")
