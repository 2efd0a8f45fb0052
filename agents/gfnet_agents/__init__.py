"""What learns a policy: algorithms, the adapter to stable-baselines3, and stage 2 itself."""

from gfnet_agents.algorithms import (
    ALGORITHMS,
    Algorithm,
    ObservationExtractor,
    build_agent,
    learned_policy,
)
from gfnet_agents.training import PolicyConfig, train_policy
from gfnet_agents.vec_env import StableBaselinesVecEnv

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ObservationExtractor",
    "PolicyConfig",
    "StableBaselinesVecEnv",
    "build_agent",
    "learned_policy",
    "train_policy",
]
