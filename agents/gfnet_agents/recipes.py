"""Recipes: the schedules of all three stages for a family of encoders."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import tyro

from gfnet_agents.training import PolicyConfig, PolicySchedule
from gfnet_env.runs import values_of
from gfnet_env.training import ClassifierSchedule

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train a GFNet.

    Attributes:
        stage1: Encoders and classifier on random patches.
        stage2: The policy.
        stage3: Encoders and classifier on the policy's patches.
    """

    stage1: ClassifierSchedule
    stage2: PolicySchedule
    stage3: ClassifierSchedule


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
            epochs=15,
            num_envs=256,
            sampling="all",
            exit_confidence=None,
            episodes_per_update=1,
            passes=1,
            minibatches=1,
            policy_rate=3e-4,
            discount=0.7,
            clip_range=0.2,
            entropy_weight=0.01,
            # Theirs is 0.1 on locations in [0, 1].
            deviation=0.2,
        ),
        stage3=dataclasses.replace(stage1, classifier_learning_rate=0.01),
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
        stage3=dataclasses.replace(
            stage1,
            epochs=4,
            learning_rate=5e-4,
            classifier_learning_rate=1e-3,
            average_decay=0.999,
        ),
    )


RECIPES: dict[str, Recipe] = {
    # Small encoders that begin with random weights.
    "default": Recipe(
        stage1=ClassifierSchedule(),
        stage2=PolicySchedule(),
        stage3=ClassifierSchedule(epochs=4, learning_rate=2e-4),
    ),
    "photographs": _of_photographs(),
    "resnet": _of_the_authors(epochs=60, learning_rate=0.01),
    "densenet": _of_the_authors(epochs=60, learning_rate=0.01),
    "mobilenetv3": _of_the_authors(
        epochs=90, learning_rate=0.005, encoder_loss=5.0, freeze_global_encoder=True
    ),
    "efficientnet": _of_the_authors(
        epochs=30, learning_rate=0.005, encoder_loss=5.0, freeze_global_encoder=True
    ),
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
    """A stage's configuration from the command line, its defaults those of ``--recipe``.

    Args:
        config_class: Of ``train_classifier``, ``train_baselines``, ``train_policy``,
            ``train_gfnet`` or ``compare_algorithms``.
        description: What the command does.
        arguments: In place of the command line's.

    Raises:
        SystemExit: The command line is wrong, or asks for help.
        ValueError: There is no such recipe, or a value is wrong.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _take_recipe(given)
    recipe = find_recipe(name)
    names = {field.name: field for field in dataclasses.fields(cast("Any", config_class))}
    stages = ("stage1", "stage2", "stage3")
    defaults: dict[str, Any] = {name: getattr(recipe, name) for name in stages if name in names}
    if not defaults:
        schedule: ClassifierSchedule | PolicySchedule = recipe.stage1
        if issubclass(config_class, PolicyConfig):
            schedule = recipe.stage2
        elif "policy" in names and any(word.split("=")[0] == "--policy" for word in rest):
            schedule = recipe.stage3
        values = values_of(schedule, type(schedule))
        defaults = {key: value for key, value in values.items() if key in names}
    # Epochs come before timesteps, and what is given before what a recipe says.
    words = {word.split("=")[0] for word in rest}
    if "--timesteps" in words and "epochs" in defaults:
        defaults["epochs"] = None
    if "--stage2.timesteps" in words and "stage2" in defaults:
        defaults["stage2"] = dataclasses.replace(defaults["stage2"], epochs=None)
    if "run" in names and names["run"].default is dataclasses.MISSING:
        defaults["run"] = tyro.MISSING
    described = f"{description or ''}\n--recipe NAME sets the defaults: {', '.join(RECIPES)}."
    return tyro.cli(
        config_class, args=rest, default=config_class(**defaults), description=described
    )


def _take_recipe(arguments: list[str]) -> tuple[str, list[str]]:
    """The recipe that a command line names, and the rest of it."""

    @dataclass(frozen=True)
    class Chosen:
        recipe: str = "default"

    chosen, rest = tyro.cli(Chosen, args=arguments, return_unknown_args=True, add_help=False)
    return chosen.recipe, rest
