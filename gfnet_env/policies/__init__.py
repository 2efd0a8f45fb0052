"""Who picks the patch."""

from gfnet_env.policies.base import Policy, Scene, initial_state, select_rows
from gfnet_env.policies.fixed import CenterPolicy, RandomPolicy
from gfnet_env.policies.learned import LearnedPolicy, ObservationEncoder
from gfnet_env.policies.privileged import OraclePolicy, TargetPolicy
from gfnet_env.policies.recurrent import RecurrentPolicy
from gfnet_env.policies.storage import POLICIES, load_policy, save_policy

__all__ = [
    "POLICIES",
    "CenterPolicy",
    "LearnedPolicy",
    "ObservationEncoder",
    "OraclePolicy",
    "Policy",
    "RandomPolicy",
    "RecurrentPolicy",
    "Scene",
    "TargetPolicy",
    "initial_state",
    "load_policy",
    "save_policy",
    "select_rows",
]
