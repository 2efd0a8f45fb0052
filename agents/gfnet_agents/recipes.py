"""Recipes: the schedules of all three stages for a family of encoders."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gfnet_agents.learners import LEARNERS
from gfnet_agents.training import PolicyConfig, PolicySchedule, _begun
from gfnet_env.command_line import PARTS, parse, take_option
from gfnet_env.settings import Settings
from gfnet_env.training import ClassifierConfig, ClassifierSchedule

Config = TypeVar("Config", bound=Settings)

_PARTS = {**PARTS, "algorithm": LEARNERS, "algorithms": LEARNERS}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train a GFNet; what a schedule leaves out is the library's default.

    Attributes:
        stage1: Encoders and classifier on random looks.
        stage2: The policy.
        stage3: Encoders and classifier on the looks of the policy.
    """

    stage1: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    stage3: ClassifierSchedule = field(default_factory=ClassifierSchedule)

    def complete(self, config: Config) -> Config:
        """A configuration with this recipe's values for what it was not given.

        Args:
            config: Of one stage; or of several, with their schedules in ``stage1`` to ``stage3``.
        """
        if isinstance(config, PolicyConfig):
            # What a run that is continued was begun with comes before any recipe.
            begun = _begun(config, config.continue_from) if config.continue_from else {}
            return config.with_defaults(begun, self.stage2.given())
        is_stage3 = isinstance(config, ClassifierConfig) and config.policy is not None
        schedule = self.stage3 if is_stage3 else self.stage1
        stages: Mapping[str, Settings] = vars(self)
        nested = {name: stage.given() for name, stage in stages.items()}
        return config.with_defaults({**schedule.given(), **nested})

    def __str__(self) -> str:
        stages: Mapping[str, Settings] = vars(self)
        given = {
            f"{stage}.{name}": value
            for stage, schedule in stages.items()
            for name, value in schedule.given().items()
        }
        return ", ".join(f"{name}={value}" for name, value in given.items())


def _of_the_authors(**changes: Any) -> Recipe:
    """The schedule of the authors' release for ImageNet, on 256 images a step."""
    settings: dict[str, Any] = {
        "batch_size": 256,
        "optimiser": "sgd",
        "momentum": 0.9,
        "classifier_learning_rate": 0.1,
        "warmup": 0.0,
        "weight_decay": 1e-4,
        "flip": True,
    }
    stage1 = ClassifierSchedule(**settings | changes)
    return Recipe(
        stage1=stage1,
        stage2=PolicySchedule(
            algorithm="ppo-gfnet", epochs=15, num_envs=256, sampling="all", exits="never"
        ),
        stage3=stage1.replace(classifier_learning_rate=0.01),
    )


def _of_photographs() -> Recipe:
    """For some thousand pictures, and encoders that know ImageNet."""
    stage1 = ClassifierSchedule(
        epochs=4,
        # Steps are what so few pictures are short of: a quarter of the rate and half of the steps
        # cost a network of 96×96 eight points.
        batch_size=16,
        learning_rate=2e-3,
        classifier_learning_rate=4e-3,
        average_decay=0.99,
        crop_scale=(0.5, 1.0),
        flip=True,
    )
    return Recipe(
        stage1=stage1,
        stage2=PolicySchedule(timesteps=12_000),
        # Averaged over so long that a good part of what stage 1 learned stays: the pictures are
        # known by now, and with 0.99 the last step loses a point to stage 1.
        stage3=stage1.replace(
            learning_rate=5e-4, classifier_learning_rate=1e-3, average_decay=0.999
        ),
    )


_LIGHT_ENCODER: dict[str, Any] = {
    "learning_rate": 0.005,
    "encoder_loss": 5.0,
    "freeze_global_encoder": True,
}

RECIPES: dict[str, Recipe] = {
    # Small encoders that begin with random weights.
    "default": Recipe(stage3=ClassifierSchedule(epochs=4, learning_rate=2e-4)),
    "photographs": _of_photographs(),
    "resnet": _of_the_authors(epochs=60, learning_rate=0.01),
    "densenet": _of_the_authors(epochs=60, learning_rate=0.01),
    "mobilenetv3": _of_the_authors(epochs=90, **_LIGHT_ENCODER),
    "efficientnet": _of_the_authors(epochs=30, **_LIGHT_ENCODER),
    "regnet": _of_the_authors(epochs=60, learning_rate=0.02, weight_decay=5e-5),
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def parse_config(
    config_class: type[Config], description: str | None, arguments: Sequence[str] | None = None
) -> Config:
    """Read the configuration of a training command, with ``--recipe NAME`` for what is not given.

    What is given on the command line comes first, then what the run that is continued has, then the
    recipe, then the library's defaults.

    Args:
        config_class: Of ``train_classifier``, ``train_baselines``, ``train_policy``,
            ``train_gfnet`` or ``compare_algorithms``.
        description: What the command does.
        arguments: In place of the command line's.

    Raises:
        SystemExit: The command line is wrong, or asks for help.
        ValueError: There is no such recipe, or a value is wrong.
    """
    names, rest = take_option("--recipe", sys.argv[1:] if arguments is None else arguments)
    name = names[-1] if names else "default"
    recipe = find_recipe(name)
    described = (
        f"{description or ''}\n--recipe NAME sets what is not given: {', '.join(RECIPES)}.\n"
        f"{name}: {recipe}"
    )
    return recipe.complete(parse(config_class, described, rest, _PARTS))
