"""Recipes: schedules of all three stages for families of encoders."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gfnet_agents.config import PARTS, PolicyConfig, PolicySchedule, begun_with
from gfnet_env.command_line import About, Flag, read
from gfnet_env.settings import Settings
from gfnet_env.training import ClassifierConfig, ClassifierSchedule

Config = TypeVar("Config", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The schedules of the three stages; the library's defaults complete them."""

    stage1: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    stage3: ClassifierSchedule = field(default_factory=ClassifierSchedule)

    def complete(self, config: Config) -> Config:
        """Fill in the missing settings of a configuration from this recipe.

        Args:
            config: Configuration of one stage, or of several with schedules in ``stage1`` to
                ``stage3``.
        """
        if isinstance(config, PolicyConfig):
            # The run being continued takes precedence over any recipe.
            begun = begun_with(config, config.continue_from) if config.continue_from else {}
            return config.with_defaults(begun, self.stage2.given())
        is_stage3 = isinstance(config, ClassifierConfig) and config.policy is not None
        schedule = self.stage3 if is_stage3 else self.stage1
        return config.with_defaults(schedule.given() | self._given())

    def __str__(self) -> str:
        return ", ".join(
            f"{stage}.{name}={value}"
            for stage, given in self._given().items()
            for name, value in given.items()
        )

    def _given(self) -> dict[str, dict[str, Any]]:
        """The settings that each stage's schedule gives."""
        return {stage: schedule.given() for stage, schedule in vars(self).items()}


def _of_the_authors(**changes: Any) -> Recipe:
    """The schedule of the authors' release for ImageNet, with 256 images per step."""
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
    """The schedule for a few thousand pictures, and encoders pretrained on ImageNet."""
    stage1 = ClassifierSchedule(
        epochs=4,
        # So few pictures need many steps: with a quarter of the rate and half the steps, a network
        # of 96×96 loses eight points.
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
        # The network already knows the pictures: so long an average keeps much of stage 1. With
        # 0.99, the last step loses a point against stage 1.
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
    # Small encoders with random initial weights.
    "default": Recipe(stage3=ClassifierSchedule(epochs=4, learning_rate=2e-4)),
    "photographs": _of_photographs(),
    "resnet": _of_the_authors(epochs=60, learning_rate=0.01),
    "densenet": _of_the_authors(epochs=60, learning_rate=0.01),
    "mobilenetv3": _of_the_authors(epochs=90, **_LIGHT_ENCODER),
    "efficientnet": _of_the_authors(epochs=30, **_LIGHT_ENCODER),
    "regnet": _of_the_authors(epochs=60, learning_rate=0.02, weight_decay=5e-5),
}


_RECIPE = Flag(
    ["--recipe"], f"set what is not given for a family of networks: {', '.join(RECIPES)}", "NAME"
)


def find_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises:
        ValueError: There is no recipe of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def parse_config(
    config_class: type[Config], description: str | None, arguments: Sequence[str] | None = None
) -> Config:
    """Read the configuration of a training command; ``--recipe NAME`` fills in missing settings.

    See ``read_config``.
    """
    return read_config(config_class, About(description=description or ""), arguments)[0]


def read_config(
    config_class: type[Config],
    about: About,
    arguments: Sequence[str] | None = None,
    flags: Sequence[Flag] = (),
) -> tuple[Config, dict[str, Any]]:
    """Read the configuration and the flags of a training command.

    The command line takes precedence, then the file of ``--config``, then the run being continued,
    then the recipe (``--recipe``), then the library's defaults.

    Args:
        config_class: Configuration class of ``train_classifier``, ``train_baselines``,
            ``train_policy``, ``train_gfnet`` or ``compare_algorithms``.
        about: For ``--help``.
        arguments: Arguments to read instead of the command line's.
        flags: Options besides the settings and the recipe.

    Returns:
        The configuration, and the flags that were given.

    Raises:
        SystemExit: The command line is wrong or asks for help.
        ValueError: There is no such recipe, or a value is wrong.
    """
    config, given = read(config_class, about, arguments, PARTS, [_RECIPE, *flags])
    return find_recipe(given.pop("recipe", "default")).complete(config), given
