"""Training: stages 1 and 3 of the network, and static baselines to compare it with."""

from gfnet_env.training.baseline import BaselineConfig, plan_baselines, train_baselines
from gfnet_env.training.classifier import (
    ClassifierConfig,
    check_classifier,
    plan_classifier,
    train_classifier,
)
from gfnet_env.training.config import (
    DEFAULT_SCHEDULE,
    ClassifierSchedule,
    NetworkOptions,
    RunOptions,
    Schedule,
    open_splits,
)
from gfnet_env.training.loop import OnValidation

__all__ = [
    "DEFAULT_SCHEDULE",
    "BaselineConfig",
    "ClassifierConfig",
    "ClassifierSchedule",
    "NetworkOptions",
    "OnValidation",
    "RunOptions",
    "Schedule",
    "check_classifier",
    "open_splits",
    "plan_baselines",
    "plan_classifier",
    "train_baselines",
    "train_classifier",
]
