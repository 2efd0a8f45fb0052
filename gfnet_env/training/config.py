"""What every training has in common: its schedule, its images, its run folder."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from gfnet_env.data import DEFAULT_SPEC, SPLITS, Augmentation, ImageSet, ReadingOptions
from gfnet_env.perception.precision import Precision, check_precision

OptimiserName = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Schedule(Augmentation):
    """How long to train, how fast, by which optimiser, and on what variants of the images."""

    epochs: int = 10
    """Times to go through the training images."""
    batch_size: int = 64
    """Images per step of the optimiser, those of all processes together."""
    optimiser: OptimiserName = "adamw"
    """adamw, or sgd with Nesterov momentum."""
    momentum: float = 0.9
    """Momentum of sgd."""
    learning_rate: float = 1e-3
    """Peak rate; after the warm-up it decays along a cosine."""
    classifier_learning_rate: float | None = None
    """Peak rate of the classifier, which is always new; by default that of the encoders."""
    warmup: float = 0.05
    """Share of the training over which the rate rises to its peak."""
    weight_decay: float = 1e-4
    """Decay of the weights."""
    average_decay: float | None = None
    """Keep an exponential moving average of the weights with this decay; by default none."""

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "classifier_learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.optimiser not in get_args(OptimiserName):
            known = ", ".join(get_args(OptimiserName))
            raise ValueError(f"unknown optimiser {self.optimiser!r}; known: {known}")
        # Nesterov's step needs some momentum.
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum must be in (0, 1), not {self.momentum}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be in [0, 1), not {self.warmup}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, not {self.weight_decay}")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise ValueError(f"average_decay must be in (0, 1), not {self.average_decay}")


@dataclass(frozen=True, kw_only=True)
class RunControl:
    """Where a run works, and what becomes of one that was begun before."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints; stages 1 and 3 write one after every epoch besides."""
    resume: bool = False
    """Whether to go on from the last checkpoint of the run, where it has one."""
    overwrite: bool = False
    """Whether an existing run may be written into."""

    def __post_init__(self) -> None:
        if not self.checkpoint_minutes >= 0:
            raise ValueError(
                f"checkpoint_minutes must be at least 0, not {self.checkpoint_minutes}"
            )


# What a run may be resumed with, other than it was begun with: it changes no weight, or only as
# another machine would.
MAY_CHANGE = frozenset(
    {"run", *(each.name for kind in (RunControl, ReadingOptions) for each in fields(kind))}
)


@dataclass(frozen=True, kw_only=True)
class RunOptions(RunControl, ReadingOptions):
    """What to train, on what, in which way on which machine; all but the schedule."""

    run: Path
    """Folder for what is trained and its results; shared, where several machines train."""
    images: str = DEFAULT_SPEC
    """Image set: cluttered-digits, cluttered-mnist, folder:PATH, imagenette, …"""
    image_size: int = 224
    """Side that pictures are brought to, in pixels."""
    image_seed: int = 0
    """Seed of the scenes, and of the splits of a folder that has none."""
    encoder: str = "compact"
    """Every encoder: compact, compact-deep, or a timm name."""
    weights: str | None = None
    """Initial weights of the encoders: none, pretrained, or a file."""
    frozen: tuple[str, ...] = ()
    """Parts of every encoder that keep their weights, by module name: model.conv_stem, …"""
    precision: Precision = "float32"
    """float32, or bfloat16 where torch's autocast deems it safe."""
    accumulation: int = 1
    """Parts that a process takes its share of a batch in, one after the other, to save memory."""
    clip_norm: float | None = None
    """Longest that the gradient of all weights may be; by default any length."""
    seed: int = 0
    """Of the weights, the order of images and what is drawn for each."""

    def __post_init__(self) -> None:
        RunControl.__post_init__(self)
        check_precision(self.precision)
        if self.accumulation < 1:
            raise ValueError(f"accumulation must be at least 1, not {self.accumulation}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, not {self.clip_norm}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Schedule, RunOptions):
    """What to train, on what, and how."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        RunOptions.__post_init__(self)


def open_splits(config: TrainingConfig) -> dict[str, ImageSet]:
    """The three splits of the configured images."""
    return {
        split: config.load(
            config.images, split, image_size=config.image_size, seed=config.image_seed
        )
        for split in SPLITS
    }


def image_side(images: ImageSet) -> int | None:
    """Side of the images, in pixels; None where they are not square."""
    height, width = images[[0]].shape[2:]
    return height if height == width else None
