"""Features by name, and as options that commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from gfnet_env.data import ImageSet
from gfnet_env.features.base import FrozenFeatures
from gfnet_env.features.cached import (
    DEFAULT_CELLS,
    DEFAULT_FOLDER,
    DEFAULT_LIMIT_GIB,
    CachedFeatures,
)
from gfnet_env.features.live import LiveFeatures
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.precision import Precision, check_precision

# From a network, images and a number of rows to what serves the features.
FeatureSource = Callable[[GlanceFocusNetwork, ImageSet, int], FrozenFeatures]

FEATURES: dict[str, FeatureSource] = {"live": LiveFeatures, "cached": CachedFeatures}

# Options that change what features cost, not what they are.
COST_OPTIONS = frozenset({"cache", "cache_gib", "keep_glances"})


def resolve_features(features: str | FeatureSource) -> FeatureSource:
    """A source of features by name, or a user's own as it is.

    Raises:
        ValueError: There is none of that name.
    """
    if not isinstance(features, str):
        return features
    if features not in FEATURES:
        raise ValueError(f"unknown features {features!r}; known: {', '.join(FEATURES)}")
    return FEATURES[features]


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where cached features are, and which."""

    cells: int = DEFAULT_CELLS
    """Locations along each axis that cached patches are at."""
    cache: Path = DEFAULT_FOLDER
    """Folder of cached features; what other features it holds stays."""
    cache_gib: float = DEFAULT_LIMIT_GIB
    """GiB that the cached features of a split may take when all are there."""
    precision: Precision = "float32"
    """What the encoders compute in, float32 or bfloat16, and cached features are kept in."""

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, not {self.cells}")
        if not self.cache_gib > 0:
            raise ValueError(f"cache_gib must be positive, not {self.cache_gib}")
        check_precision(self.precision)

    def open_cache(
        self, network: GlanceFocusNetwork, images: ImageSet, rows: int
    ) -> CachedFeatures:
        """``CachedFeatures`` with these options."""
        return CachedFeatures(
            network,
            images,
            rows,
            precision=self.precision,
            cells=self.cells,
            folder=self.cache,
            limit_gib=self.cache_gib,
        )


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(CacheOptions):
    """Where an environment's features come from."""

    features: Literal["live", "cached"] = "live"
    """live: the encoders at every step; cached: computed once for a lattice of locations."""
    keep_glances: bool = False
    """Whether live features keep every image's glance in memory."""

    def __post_init__(self) -> None:
        CacheOptions.__post_init__(self)
        resolve_features(self.features)
        if self.keep_glances and self.features != "live":
            raise ValueError(
                f"keep_glances is for live features; {self.features} ones keep every glance anyway"
            )

    def feature_source(self) -> FeatureSource:
        """What makes features by these options."""
        if self.features == "cached":
            return self.open_cache
        return partial(LiveFeatures, precision=self.precision, keep_glances=self.keep_glances)
