"""Learners, which train a policy, from any library."""

from gfnet_agents.learners.base import LEARNERS, Learner, build_learner, choose_actions
from gfnet_agents.learners.sb3 import StableBaselinesLearner
from gfnet_agents.learners.torch_ppo import TorchPPOLearner

__all__ = [
    "LEARNERS",
    "Learner",
    "StableBaselinesLearner",
    "TorchPPOLearner",
    "build_learner",
    "choose_actions",
]
