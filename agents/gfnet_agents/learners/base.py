"""The learner protocol: what learns a policy, whatever library it comes from."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from gfnet_env.actions import ACTIONS, Actions, build_actions
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import Policy
from gfnet_env.registry import Registry

# What a learner is given beside its settings.
_GIVEN = ("env", "seed", "device", "timesteps", "replay_gib", "announce")

_DEFAULT_ACTIONS: dict[type[spaces.Space[Any]], str] = {
    spaces.Box: "continuous",
    spaces.Discrete: "grid",
}


class Learner(Protocol):
    """Learns a policy in a vector environment.

    Beside ``env``, ``seed``, ``device`` and ``timesteps`` its constructor has its settings, as
    keywords with types and defaults: ``NAME:key=value,…`` sets them. It may also take
    ``replay_gib`` (GiB that a replay memory may take) and ``announce`` (shows a line to the user).

    Attributes:
        action_spaces: Spaces of actions that it takes, ``Box``, ``Discrete`` or both; the first is
            its default.
        autoreset_mode: When its environment begins the next episode.
        steps: Environment steps that it has learned from, those of all sub-environments together.
        mean_return: Of recent episodes; it is shown beside the progress.
        metrics: What it logged last, by TensorBoard tag; another mapping whenever it logs.
    """

    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]]
    autoreset_mode: ClassVar[AutoresetMode]

    def __init__(
        self,
        env: GlanceFocusVectorEnv,
        *,
        seed: int,
        device: torch.device,
        timesteps: int,
        **settings: Any,
    ) -> None:
        """Prepare to learn.

        Args:
            env: What it learns in; nobody has reset it.
            seed: Of its weights, its actions and the order of images.
            device: Where it learns.
            timesteps: Environment steps after which it is done.
            settings: Its own.

        Raises:
            ValueError: A setting is out of range.
        """

    @property
    def steps(self) -> int: ...

    @property
    def mean_return(self) -> float: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...

    def learn(self, callback: Callable[[], None]) -> None:
        """Learn until ``steps`` reaches ``timesteps``.

        Args:
            callback: Is called before the first update, between updates and after the last, where
                ``state_dict`` and ``policy`` are whole. What it raises ends the learning.
        """
        ...

    def policy(self) -> Policy:
        """What was learned so far, for the assembled network: a copy, in evaluation mode.

        A ``LearnedPolicy`` can be saved; others only by whoever wrote them.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the learning depends on, so that it can be resumed to the bit.

        The run itself keeps the state of the environment and that of the global generators of
        torch and numpy.

        Returns:
            Tensors, numbers, strings, and lists and dicts of such.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was called; the environment is there already."""
        ...

    def save(self, folder: Path) -> None:
        """Write what a later run may continue from: weights and optimisers."""
        ...

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; nothing in the file is executed.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is of another learner, or damaged.
        """
        ...


class LearnerRegistry(Registry[Learner]):
    """Learners by spec; ``parse`` checks one before there is an environment for it."""

    def parse(self, spec: str, *, trusted: bool = True) -> tuple[type[Learner], dict[str, Any]]:
        """The class that a spec names, and its settings.

        Args:
            spec: See ``Registry``.
            trusted: Likewise.

        Raises:
            ValueError: There is no such learner, or a setting is unknown or has the wrong type.
        """
        learner, text = self._split(spec, trusted=trusted)
        if not hasattr(learner, "action_spaces"):
            raise ValueError(
                f"{spec!r} is no learner: see the protocol Learner, or put an algorithm of "
                "stable-baselines3 into a class that derives from StableBaselinesLearner"
            )
        return learner, self._parse(text, settings_of(learner), spec)  # type: ignore[return-value]

    def describe(self) -> str:
        """All names; the settings of each are named where one is wrong."""
        return ", ".join(self)


LEARNERS = LearnerRegistry("learner")


def settings_of(learner: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a learner's class, by name."""
    parameters = inspect.signature(learner, eval_str=True).parameters
    hidden = {*_GIVEN, *(n for n, p in parameters.items() if p.kind == p.VAR_KEYWORD)}
    return {name: each for name, each in parameters.items() if name not in hidden}


def build_learner(
    spec: str,
    env: GlanceFocusVectorEnv,
    *,
    seed: int,
    device: str | torch.device,
    timesteps: int,
    trusted: bool = True,
    **options: Any,
) -> Learner:
    """Build a learner.

    Args:
        spec: Of the learner, see ``LearnerRegistry``.
        env: See ``Learner``.
        seed: Likewise.
        device: Likewise.
        timesteps: Likewise.
        trusted: See ``Registry``.
        options: ``replay_gib`` and ``announce``, for learners that take them.

    Raises:
        ValueError: There is no such learner, or it does not take the actions or a setting.
    """
    learner, settings = LEARNERS.parse(spec, trusted=trusted)
    check_actions(learner, spec, env.actions)
    taken = inspect.signature(learner).parameters
    options = {name: value for name, value in options.items() if name in taken}
    given: dict[str, Any] = {"seed": seed, "device": torch.device(device), "timesteps": timesteps}
    return learner(env, **given, **options, **settings)


def choose_actions(spec: str, actions: str | None, *, trusted: bool = True) -> Actions:
    """The actions that a learner is to have.

    Args:
        spec: Of the learner.
        actions: A spec, see ``build_actions``; None for the first kind that the learner takes.
        trusted: See ``Registry``.

    Raises:
        ValueError: There are no such actions, or the learner does not take them.
    """
    learner, _ = LEARNERS.parse(spec, trusted=trusted)
    built = build_actions(actions or _DEFAULT_ACTIONS[learner.action_spaces[0]], trusted=trusted)
    check_actions(learner, spec, built)
    return built


def check_actions(learner: type[Learner], spec: str, actions: Actions) -> None:
    """Raises ``ValueError`` unless a learner takes some actions."""

    def takes(kind: type[Learner], other: Actions) -> bool:
        return isinstance(other.space, kind.action_spaces)

    if takes(learner, actions):
        return
    fitting = [name for name in ACTIONS if takes(learner, build_actions(name))]
    others = [name for name in LEARNERS if takes(LEARNERS.parse(name)[0], actions)]
    raise ValueError(
        f"the learner {spec!r} does not take {actions.spec} actions, but "
        f"{' and '.join(fitting)} ones; {actions.spec} ones are taken by {', '.join(others)}"
    )
