"""What learns a policy: algorithms, the adapter to stable-baselines3, and stage 2 itself."""

from gfnet_agents.algorithms import (
    ALGORITHMS,
    Algorithm,
    ObservationExtractor,
    build_agent,
    learned_policy,
)
from gfnet_agents.training import PolicyConfig, train_policy
from gfnet_agents.vec_env import GlanceFocusVecEnv

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "GlanceFocusVecEnv",
    "ObservationExtractor",
    "PolicyConfig",
    "build_agent",
    "learned_policy",
    "train_policy",
]
