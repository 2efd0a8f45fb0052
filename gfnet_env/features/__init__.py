"""Sources of a model's features of images: live or cached."""

from gfnet_env.features.base import FeatureSource
from gfnet_env.features.cached import CachedFeatures
from gfnet_env.features.live import LiveFeatures
from gfnet_env.features.options import (
    COST_OPTIONS,
    CacheOptions,
    FeatureOptions,
    FeatureSpec,
    MakeFeatures,
    build_features,
)

__all__ = [
    "COST_OPTIONS",
    "CacheOptions",
    "CachedFeatures",
    "FeatureOptions",
    "FeatureSource",
    "FeatureSpec",
    "LiveFeatures",
    "MakeFeatures",
    "build_features",
]
