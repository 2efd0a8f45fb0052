"""Policies by name."""

from collections.abc import Callable

from gfnet_env.policies.base import Policy
from gfnet_env.policies.fixed import (
    CenterPolicy,
    CenterThenCornersPolicy,
    GaussianPolicy,
    GridPolicy,
    RandomPolicy,
)
from gfnet_env.policies.privileged import OraclePolicy, TargetPolicy
from gfnet_env.policies.saliency import SaliencyPolicy

# Those that need no training, as they are by default; what a learned one is held against.
UNLEARNED: dict[str, Callable[[], Policy]] = {
    RandomPolicy.name: RandomPolicy,
    CenterPolicy.name: CenterPolicy,
    CenterThenCornersPolicy.name: CenterThenCornersPolicy,
    GridPolicy.name: GridPolicy,
    GaussianPolicy.name: GaussianPolicy,
    SaliencyPolicy.name: SaliencyPolicy,
    TargetPolicy.name: TargetPolicy,
    OraclePolicy.name: OraclePolicy,
}

# Those that are told what no agent may know; bounds for the others.
BOUNDS = (TargetPolicy.name, OraclePolicy.name)


def find_policy(name: str) -> Policy:
    """A policy that needs no training, by name.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in UNLEARNED:
        raise ValueError(f"unknown policy {name!r}; known: {', '.join(UNLEARNED)}")
    return UNLEARNED[name]()
