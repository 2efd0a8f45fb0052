"""Learners, which train a policy, from any library."""

from gfnet_agents.learners.base import LEARNERS, Learner, build_learner, choose_actions
from gfnet_agents.learners.sb3 import StableBaselinesLearner

__all__ = ["LEARNERS", "Learner", "StableBaselinesLearner", "build_learner", "choose_actions"]
