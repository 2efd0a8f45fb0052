"""Classifiers: from the feature vectors seen so far to a prediction."""

from gfnet_env.classifiers.attention import AttentionClassifier
from gfnet_env.classifiers.base import (
    CLASSIFIERS,
    PLACE_SIZE,
    Classifier,
    build_classifier,
    place,
)
from gfnet_env.classifiers.cascade import CascadeClassifier
from gfnet_env.classifiers.evidence import EvidenceClassifier
from gfnet_env.classifiers.recurrent import RecurrentClassifier

__all__ = [
    "CLASSIFIERS",
    "PLACE_SIZE",
    "AttentionClassifier",
    "CascadeClassifier",
    "Classifier",
    "EvidenceClassifier",
    "RecurrentClassifier",
    "build_classifier",
    "place",
]
