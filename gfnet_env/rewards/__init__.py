"""Rewards of looks."""

from gfnet_env.rewards.base import REWARDS, Reward, Transition, judge
from gfnet_env.rewards.confidence_gain import confidence_gain
from gfnet_env.rewards.cross_entropy_gain import cross_entropy_gain
from gfnet_env.rewards.random_contrast import RandomContrast
from gfnet_env.rewards.sparse import sparse

__all__ = [
    "REWARDS",
    "RandomContrast",
    "Reward",
    "Transition",
    "confidence_gain",
    "cross_entropy_gain",
    "judge",
    "sparse",
]
