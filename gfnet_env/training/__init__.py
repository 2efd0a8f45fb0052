"""Training: stage 1 of the network, and the static baselines it is held against."""

from gfnet_env.training.baseline import BaselineConfig, train_baselines
from gfnet_env.training.classifier import ClassifierConfig, train_classifier

__all__ = ["BaselineConfig", "ClassifierConfig", "train_baselines", "train_classifier"]
