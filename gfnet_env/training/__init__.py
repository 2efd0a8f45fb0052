"""Training what sees: stage 1."""

from gfnet_env.training.classifier import ClassifierConfig, train_classifier

__all__ = ["ClassifierConfig", "train_classifier"]
