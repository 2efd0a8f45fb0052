"""Sources of features by name, and as settings of commands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from gfnet_env.features.base import FeatureSource
from gfnet_env.features.cached import (
    DEFAULT_CELLS,
    DEFAULT_FOLDER,
    DEFAULT_LIMIT_GIB,
    CachedFeatures,
)
from gfnet_env.features.layout import Layout
from gfnet_env.features.live import LiveFeatures
from gfnet_env.images.base import ImageSet
from gfnet_env.models.base import Model
from gfnet_env.precision import Precision
from gfnet_env.registry import Registry
from gfnet_env.settings import Above, AtLeast, Settings

# Makes a feature source for a model and images.
MakeFeatures = Callable[[Model, ImageSet], FeatureSource]
# See ``build_features``.
FeatureSpec = str | MakeFeatures | FeatureSource

FEATURES: Registry[FeatureSource] = Registry("source of features", context=("model", "images"))
FEATURES.register("live")(LiveFeatures)
FEATURES.register("cached")(CachedFeatures)

# Settings that change the cost of features, not the features.
COST_OPTIONS = frozenset({"cache", "cache_gib", "glance_gib"})


def build_features(features: FeatureSpec, model: Model, images: ImageSet) -> FeatureSource:
    """Build a source of a model's features of images.

    Args:
        features: A spec: ``live``, ``cached:cells=7,scales=[1,2]``, or ``module:NAME`` of your own;
            a function that makes a source from a model and images; or a source.
        model: The model.
        images: The set.

    Raises:
        TypeError: It is no source.
        ValueError: There is no such source, or a parameter is wrong.
    """
    if isinstance(features, str):
        return FEATURES.build(features, model=model, images=images)
    source: Any = features(model, images) if callable(features) else features
    if not hasattr(source, "overview"):
        raise TypeError(
            f"features must be live, cached:…, a source of features or a function that makes one, "
            f"not {source!r}"
        )
    made: FeatureSource = source
    return made


@dataclass(frozen=True, kw_only=True)
class CacheOptions(Settings):
    """Which features are cached, and where."""

    cells: Annotated[int, AtLeast(1)] = DEFAULT_CELLS
    """Locations along each axis at which features are cached."""
    scales: Annotated[tuple[float, ...], AtLeast(1)] = (1.0,)
    """Scales of the windows whose features are cached."""
    cache: Path = DEFAULT_FOLDER
    """Folder for cached features."""
    cache_gib: Annotated[float, Above(0)] = DEFAULT_LIMIT_GIB
    """Maximum size of the cached features of a split, in GiB."""
    precision: Precision = "float32"
    """Precision of the encoders and the cache: float32 or bfloat16."""

    def open_cache(self, model: Model, images: ImageSet) -> CachedFeatures:
        """``CachedFeatures`` with these options."""
        return CachedFeatures(
            model,
            images,
            cells=self.cells,
            scales=self.scales,
            precision=self.precision,
            folder=self.cache,
            limit_gib=self.cache_gib,
        )


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(CacheOptions):
    """Where an environment's features come from."""

    features: Literal["live", "cached"] = "live"
    """live: encoded at every step; cached: computed once, for a lattice of locations."""
    glance_gib: Annotated[float, AtLeast(0)] = 1.0
    """Maximum memory for live features of glances, in GiB: if those of all images of the split fit,
    they are kept, and no glance is encoded twice. 0 keeps none."""

    def source(self) -> MakeFeatures:
        """The function that makes features with these options."""
        if self.features == "cached":
            return self.open_cache
        return self.live

    def keeps_glances(self, model: Model, images: ImageSet) -> bool:
        """Whether the glances at all images of a set are kept."""
        needed = len(images) * Layout.of_overviews(model, self.precision).bytes
        return self.features == "cached" or needed <= self.glance_gib * 2**30

    def live(self, model: Model, images: ImageSet) -> LiveFeatures:
        """``LiveFeatures`` with these options."""
        keeps = self.keeps_glances(model, images)
        return LiveFeatures(model, images, precision=self.precision, keep_glances=keeps)
