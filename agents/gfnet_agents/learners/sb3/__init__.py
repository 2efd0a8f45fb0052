"""stable-baselines3 and sb3-contrib: thirteen algorithms behind the learner protocol."""

# Whoever imports the family has all of it registered.
import gfnet_agents.learners.sb3.algorithms  # noqa: F401
from gfnet_agents.learners.sb3.extractor import ObservationExtractor
from gfnet_agents.learners.sb3.learned import learned_policy
from gfnet_agents.learners.sb3.learner import StableBaselinesLearner
from gfnet_agents.learners.sb3.vec_env import FlatObservations, StableBaselinesVecEnv

__all__ = [
    "FlatObservations",
    "ObservationExtractor",
    "StableBaselinesLearner",
    "StableBaselinesVecEnv",
    "learned_policy",
]
