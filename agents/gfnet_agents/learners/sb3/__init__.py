"""The algorithms of stable-baselines3 and sb3-contrib behind the learner protocol."""

# Importing the module registers all algorithms.
import gfnet_agents.learners.sb3.algorithms  # noqa: F401
from gfnet_agents.learners.sb3.extractor import ObservationExtractor
from gfnet_agents.learners.sb3.learned import learned_policy
from gfnet_agents.learners.sb3.learner import StableBaselinesLearner
from gfnet_agents.learners.sb3.vec_env import StableBaselinesVecEnv

__all__ = [
    "ObservationExtractor",
    "StableBaselinesLearner",
    "StableBaselinesVecEnv",
    "learned_policy",
]
