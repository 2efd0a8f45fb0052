"""Policies on disk: JSON for what they are, safetensors for what they have learned."""

from pathlib import Path
from typing import Any

from torch import nn

from gfnet_env import files
from gfnet_env.policies.base import Policy
from gfnet_env.policies.fixed import (
    CenterPolicy,
    CenterThenCornersPolicy,
    GaussianPolicy,
    GridPolicy,
    RandomPolicy,
)
from gfnet_env.policies.learned import LearnedPolicy
from gfnet_env.policies.recurrent import RecurrentPolicy
from gfnet_env.policies.saliency import SaliencyPolicy

_NAME = "policy"

# What can be saved and loaded by name; the privileged ones have no place in a deployed network.
POLICIES: dict[str, type[Any]] = {
    policy.name: policy
    for policy in (
        RandomPolicy,
        CenterPolicy,
        CenterThenCornersPolicy,
        GridPolicy,
        GaussianPolicy,
        SaliencyPolicy,
        LearnedPolicy,
        RecurrentPolicy,
    )
}


def check_saveable(policy: Policy) -> None:
    """Raises ``ValueError`` unless ``save_policy`` takes this policy."""
    if type(policy) not in POLICIES.values():
        raise ValueError(
            f"{type(policy).__name__} cannot be saved: only {', '.join(POLICIES)} can. Save its "
            "weights yourself, save the network with network.save, and assemble both again"
        )


def save_policy(policy: Policy, folder: Path) -> None:
    """Write ``policy.json`` and, for a module, ``policy.safetensors``.

    Raises:
        ValueError: The policy is none of ``POLICIES``.
    """
    check_saveable(policy)
    config = {"name": policy.name, "arguments": policy.config}  # type: ignore[attr-defined]
    if isinstance(policy, nn.Module):
        files.save_module(folder, _NAME, policy, config)
    else:
        files.write_json(folder / f"{_NAME}.json", config)


def load_policy(folder: Path) -> Policy:
    """Read what ``save_policy`` wrote, onto the CPU and in evaluation mode.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged, or names an unknown policy.
    """
    saved = files.load_config(folder, _NAME)
    name = saved.get("name")
    if name not in POLICIES:
        raise ValueError(
            f"{folder} holds the unknown policy {name!r}; known: {', '.join(POLICIES)}"
        )
    try:
        policy = POLICIES[name](**saved.get("arguments", {}))
    except TypeError as error:
        raise ValueError(f"{folder / _NAME}.json does not describe {name!r}: {error}") from error
    if isinstance(policy, nn.Module):
        files.load_weights(folder, _NAME, policy)
        policy.eval()
    return policy
