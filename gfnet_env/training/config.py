"""Settings of all trainings: schedule, network, images, run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from gfnet_env.images import DEFAULT_SPEC, SPLITS, Augmentation, ImageSet, ReadingOptions
from gfnet_env.looks import Aspect
from gfnet_env.matching import ImageOptions
from gfnet_env.models.gfnet import GlanceLogits
from gfnet_env.models.trained_on import TrainingData
from gfnet_env.precision import AutocastPrecision
from gfnet_env.runs import RunControl, git_commit
from gfnet_env.settings import UNSET, Above, AtLeast, Below, Between, Flat, OrUnset, Seed, Settings

OptimiserName = Literal["adamw", "sgd"]
Windows = Literal["random", "mined"]


@dataclass(frozen=True, kw_only=True)
class Schedule(Augmentation):
    """How long to train, at which rate, with which optimiser and which augmentations.

    Defaults come from a recipe, or else from ``DEFAULT_SCHEDULE``.
    """

    flip: OrUnset[bool] = UNSET
    """Whether to mirror half of the training images."""
    epochs: OrUnset[Annotated[int, AtLeast(1)]] = UNSET
    """Passes over the training images."""
    batch_size: OrUnset[Annotated[int, AtLeast(1)]] = UNSET
    """Images per step of the optimiser, in all processes together."""
    optimiser: OrUnset[OptimiserName] = UNSET
    """adamw, or sgd with Nesterov momentum."""
    # Nesterov's step needs momentum.
    momentum: OrUnset[Annotated[float, Above(0), Below(1)]] = UNSET
    """Momentum of sgd."""
    learning_rate: OrUnset[Annotated[float, Above(0)]] = UNSET
    """Peak learning rate; after the warm-up, the rate decays along a cosine."""
    classifier_learning_rate: Annotated[float, Above(0)] | None = None
    """Peak learning rate of the classifier, which starts untrained; by default
    ``learning_rate``."""
    warmup: OrUnset[Annotated[float, AtLeast(0), Below(1)]] = UNSET
    """Share of the training during which the rate rises to its peak."""
    weight_decay: OrUnset[Annotated[float, AtLeast(0)]] = UNSET
    """Weight decay of the optimiser."""
    average_decay: OrUnset[Annotated[float, AtLeast(0), Below(1)]] = UNSET
    """Keep an exponential moving average of the weights with this decay; 0 keeps none."""
    class_weights: OrUnset[bool] = UNSET
    """Whether all classes count the same in the loss and in validation, however many images they
    have."""
    label_smoothing: OrUnset[Annotated[float, AtLeast(0), Below(1)]] = UNSET
    """Share of the true class's probability that the loss spreads evenly over all classes."""
    load_best_model_at_end: OrUnset[bool] = UNSET
    """Whether to end with the weights of the epoch that was the most accurate on val, at its last
    step, instead of those of the last epoch."""
    early_stopping_patience: Annotated[int, AtLeast(1)] | None = None
    """Number of epochs in a row without a better accuracy on val, at the last step, after which
    training ends; by default it never ends early."""

    def resolved(self) -> Self:
        """A copy with the library's defaults."""
        return self.with_defaults(DEFAULT_SCHEDULE.given())


@dataclass(frozen=True, kw_only=True)
class ClassifierSchedule(Schedule):
    """How to train encoders and a classifier together."""

    encoder_loss: OrUnset[Annotated[float, AtLeast(0)]] = UNSET
    """Weight of the cross-entropy of the encoders' own heads (the paper's lambda)."""
    freeze_global_encoder: OrUnset[bool] = UNSET
    """Whether to freeze the encoder of glances and its head."""
    windows: OrUnset[Windows] = UNSET
    """Windows of stage 1: random (the default), or mined: the most informative about the class
    among many candidates."""
    where_loss: OrUnset[Annotated[float, AtLeast(0)]] = UNSET
    """Weight of the where-map's cross-entropy against the scores of mined windows."""


DEFAULT_SCHEDULE = ClassifierSchedule(
    flip=False,
    epochs=10,
    batch_size=64,
    optimiser="adamw",
    momentum=0.9,
    learning_rate=1e-3,
    warmup=0.05,
    weight_decay=1e-4,
    average_decay=0.0,
    class_weights=False,
    label_smoothing=0.0,
    load_best_model_at_end=False,
    encoder_loss=1.0,
    freeze_global_encoder=False,
    windows="random",
    where_loss=1.0,
)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Settings):
    """Encoders, their initial weights, and how training fits a machine."""

    encoder: OrUnset[str] = UNSET
    """Encoder of glances and windows, by default compact: NAME, NAME:key=value,… or module:NAME of
    your own."""
    aspect: OrUnset[Aspect] = UNSET
    """How an overview becomes square: stretch (the default), or pad with black."""
    weights: str | None = None
    """Initial weights of the encoders: pretrained, or a file; by default random ones."""
    frozen: tuple[str, ...] = ()
    """Parts of every encoder to freeze, by module name: model.conv_stem, …"""
    precision: AutocastPrecision = "float32"
    """float32; bfloat16 wherever torch's autocast considers it safe; or auto, which is bfloat16 if
    the device has instructions for it, as it is several times slower without."""
    accumulation: Annotated[int, AtLeast(1)] = 1
    """Number of parts in which a process computes its share of a batch, one by one, to save
    memory."""
    clip_norm: Annotated[float, Above(0)] | None = None
    """Maximum norm of the gradient of all weights; by default none."""
    seed: Seed = 0
    """Seed of the weights, the order of images and their augmentation."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Settings):
    """How the network is built, and what its weights start from."""

    patch_size: OrUnset[Annotated[int, AtLeast(1)]] = UNSET
    """P, side of the glance and of the windows, in pixels; by default 32."""
    glance_size: Annotated[int, AtLeast(1)] | None = None
    """Side of the glance, in pixels, to make it finer than P; by default P."""
    glance_encoder: str | None = None
    """Another encoder for the glance; a small one makes a fine glance cheap."""
    where_scales: OrUnset[Annotated[tuple[float, ...], AtLeast(1)]] = UNSET
    """Scales of the windows that the where-map rates, which the policy heat follows; by default 1
    with mined windows, else there is no map."""
    focus_steps: OrUnset[Annotated[int, AtLeast(1)]] = UNSET
    """N, maximum number of looks after the glance; by default 3."""
    classifier: OrUnset[str] = UNSET
    """Classifier, which combines the views: recurrent (the default), cascade, evidence, attention,
    or module:NAME of your own."""
    memory_size: Annotated[int, AtLeast(1)] | None = None
    """Size of the recurrent classifier's memory; by default at most 512."""
    glance_logits: GlanceLogits | None = None
    """Source of the glance's logits: classifier or encoder; by default the classifier, or the
    encoder for a cascade, which has no logits at the glance."""
    baseline: Path | None = None
    """Run folder for the initial weights. Of train_baseline: the global encoder starts from the
    network of resolution P, the local one from the highest resolution (paper, section 4.1). Of
    train_classifier: the encoders and the where-map start from its network's."""
    object_share: OrUnset[Annotated[float, Between(0, 1)]] = UNSET
    """Share of the random windows that lie on the object, if its place is known; by default 0."""


# Defaults for settings that neither the command, a recipe nor an earlier stage gives.
DEFAULTS = DEFAULT_SCHEDULE.given() | {
    "images": DEFAULT_SPEC,
    "image_size": 224,
    "image_seed": 0,
    "encoder": "compact",
    "aspect": "stretch",
    "patch_size": 32,
    "focus_steps": 3,
    "classifier": "recurrent",
    "where_scales": (),
    "object_share": 0.0,
}

# Settings that may change when a run is resumed, since they do not affect the weights.
MAY_CHANGE = frozenset(each.name for each in fields(ReadingOptions))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """What to train, on which images, and how."""

    run: Path
    """Folder for weights and results; it must be shared if several machines train."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    schedule: Flat[Schedule] = field(default_factory=Schedule)
    options: Flat[RunOptions] = field(default_factory=RunOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def resolved(self, *layers: Mapping[str, Any]) -> Self:
        """A copy with missing settings taken from the first layer that has them, or defaults."""
        return self.with_defaults(*layers, DEFAULTS)

    @property
    def chosen_images(self) -> tuple[str, int, int]:
        """The spec, size and seed of the images of a resolved configuration."""
        spec, size, seed = self.images.images, self.images.image_size, self.images.image_seed
        assert spec is not None
        assert size is not None
        assert seed is not None
        return spec, size, seed

    def trained_on(self, images: ImageSet, *, in_memory: bool) -> TrainingData:
        """The ``trained_on`` of a network that a resolved configuration trains.

        Args:
            images: The training split.
            in_memory: Whether the split was given as an object, which has no spec.
        """
        spec, _, image_seed = self.chosen_images
        size = images.fixed_size
        return TrainingData(
            images=None if in_memory else spec,
            image_size=size[0] if size is not None and size[0] == size[1] else None,
            image_seed=image_seed,
            fit=images.fit,
            seed=self.options.seed,
            commit=git_commit(),
        )


def check_classes_differ(images: ImageSet) -> None:
    """Raise ``ValueError`` if all training images are of one class."""
    if len(images.labels.unique()) < 2:
        raise ValueError(
            "all training images are of one class, so there is nothing to tell apart; give images "
            "of two classes at least"
        )


def open_splits(config: TrainingConfig) -> dict[str, ImageSet]:
    """The three splits of the images of a resolved configuration."""
    spec, size, seed = config.chosen_images
    load, fit = config.images.reading.load, config.images.fit
    return {split: load(spec, split, image_size=size, seed=seed, fit=fit) for split in SPLITS}
