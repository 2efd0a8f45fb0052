"""Who picks the patch."""

from gfnet_env.policies.base import Policy, Scene, initial_state, select_rows
from gfnet_env.policies.fixed import (
    CenterPolicy,
    CenterThenCornersPolicy,
    GaussianPolicy,
    GridPolicy,
    RandomPolicy,
)
from gfnet_env.policies.learned import LearnedPolicy, ObservationEncoder
from gfnet_env.policies.privileged import OraclePolicy, TargetPolicy
from gfnet_env.policies.recurrent import RecurrentPolicy
from gfnet_env.policies.saliency import SaliencyPolicy
from gfnet_env.policies.storage import POLICIES, load_policy, save_policy
from gfnet_env.policies.table import BOUNDS, UNLEARNED, find_policy

__all__ = [
    "BOUNDS",
    "POLICIES",
    "UNLEARNED",
    "CenterPolicy",
    "CenterThenCornersPolicy",
    "GaussianPolicy",
    "GridPolicy",
    "LearnedPolicy",
    "ObservationEncoder",
    "OraclePolicy",
    "Policy",
    "RandomPolicy",
    "RecurrentPolicy",
    "SaliencyPolicy",
    "Scene",
    "TargetPolicy",
    "find_policy",
    "initial_state",
    "load_policy",
    "save_policy",
    "select_rows",
]
