"""Frozen features served to the environment: live, cached."""

from gfnet_env.features.base import FrozenFeatures
from gfnet_env.features.cached import CachedFeatures
from gfnet_env.features.live import LiveFeatures
from gfnet_env.features.options import (
    COST_OPTIONS,
    FEATURES,
    FeatureOptions,
    FeatureSource,
    resolve_features,
)

__all__ = [
    "COST_OPTIONS",
    "FEATURES",
    "CachedFeatures",
    "FeatureOptions",
    "FeatureSource",
    "FrozenFeatures",
    "LiveFeatures",
    "resolve_features",
]
