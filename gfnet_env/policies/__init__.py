"""Policies, which decide where to look."""

from gfnet_env.policies.base import (
    POLICIES,
    Context,
    Memory,
    Policy,
    as_looks,
    decide,
    shown_to,
    start,
)
from gfnet_env.policies.drawn import GaussianPolicy, RandomPolicy
from gfnet_env.policies.fixed import CenterPolicy, CenterThenCornersPolicy, GridPolicy
from gfnet_env.policies.heat import HeatPolicy
from gfnet_env.policies.learned import LearnedPolicy
from gfnet_env.policies.observation_encoder import ObservationEncoder
from gfnet_env.policies.oracle import OraclePolicy
from gfnet_env.policies.recurrent import RecurrentPolicy
from gfnet_env.policies.saliency import SaliencyPolicy
from gfnet_env.policies.scan import ScanPolicy
from gfnet_env.policies.storage import check_saveable, load_policy, policy_files, save_policy
from gfnet_env.policies.target import TargetPolicy

# Upper bounds, which know more than an agent may; and all policies that need no training.
BOUNDS = ("target", "oracle")
UNLEARNED = (
    *("random", "center", "center-then-corners", "grid", "gaussian", "saliency"),
    *("heat", "scan"),
    *BOUNDS,
)

__all__ = [
    "BOUNDS",
    "POLICIES",
    "UNLEARNED",
    "CenterPolicy",
    "CenterThenCornersPolicy",
    "Context",
    "GaussianPolicy",
    "GridPolicy",
    "HeatPolicy",
    "LearnedPolicy",
    "Memory",
    "ObservationEncoder",
    "OraclePolicy",
    "Policy",
    "RandomPolicy",
    "RecurrentPolicy",
    "SaliencyPolicy",
    "ScanPolicy",
    "TargetPolicy",
    "as_looks",
    "check_saveable",
    "decide",
    "load_policy",
    "policy_files",
    "save_policy",
    "shown_to",
    "start",
]
