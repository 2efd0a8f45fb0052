"""Training: stages 1 and 3 of the network, and the static baselines it is held against."""

from gfnet_env.training.baseline import BaselineConfig, train_baselines
from gfnet_env.training.classifier import (
    ClassifierConfig,
    ClassifierSchedule,
    NetworkOptions,
    train_classifier,
)
from gfnet_env.training.config import RunOptions, Schedule

__all__ = [
    "BaselineConfig",
    "ClassifierConfig",
    "ClassifierSchedule",
    "NetworkOptions",
    "RunOptions",
    "Schedule",
    "train_baselines",
    "train_classifier",
]
