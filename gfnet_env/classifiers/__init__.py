"""Classifiers: from the feature vectors seen so far to a prediction."""

from gfnet_env.classifiers.base import CLASSIFIERS, Classifier, build_classifier
from gfnet_env.classifiers.cascade import CascadeClassifier
from gfnet_env.classifiers.recurrent import RecurrentClassifier

__all__ = [
    "CLASSIFIERS",
    "CascadeClassifier",
    "Classifier",
    "RecurrentClassifier",
    "build_classifier",
]
