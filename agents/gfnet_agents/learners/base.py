"""The learner protocol: what learns a policy, whatever library it comes from."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from gfnet_env.actions import ACTIONS, Actions, build_actions
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import Policy
from gfnet_env.registry import Registry

_DEFAULT_ACTIONS: dict[type[spaces.Space[Any]], str] = {
    spaces.Box: "continuous",
    spaces.Discrete: "grid",
}


class Learner(Protocol):
    """Learns a policy in a vector environment.

    Its settings are further keywords of its constructor, with types and defaults: a spec sets them,
    ``NAME:key=value,…``. It may also take ``replay_gib`` (most GiB for a replay memory) and
    ``announce`` (shows a line to the user).

    Args:
        env: What it learns in; nobody has reset it, and a reset without a seed takes ``seed``.
        seed: Of its weights, its actions and the order of images.
        device: Where it learns.
        timesteps: Environment steps after which it is done.
        settings: Its own.

    Attributes:
        action_spaces: Spaces of actions that it takes, ``Box``, ``Discrete`` or both; the first is
            its default.
        autoreset_mode: When its environment begins the next episode.
        steps: Environment steps so far, those of all sub-environments together.
        mean_return: Of recent episodes; the progress bar shows it.
        metrics: What it logged last, by TensorBoard tag; another mapping whenever it logs.

    Raises:
        ValueError: A setting is out of range.
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
    ) -> None: ...

    @property
    def steps(self) -> int: ...

    @property
    def mean_return(self) -> float: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...

    def learn(self, callback: Callable[[], None]) -> None:
        """Learn until ``steps`` reaches ``timesteps``.

        Args:
            callback: Call it before the first update, between updates and after the last, whenever
                ``state_dict`` and ``policy`` are consistent. What it raises ends the learning.
        """

    def policy(self) -> Policy:
        """What was learned so far: a copy in evaluation mode, for the assembled network."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the learning depends on, so that it resumes bit for bit.

        The run itself saves the environment and the global generators of torch and numpy.

        Returns:
            Tensors, numbers, strings, and lists and dicts of such.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``; the environment is restored already."""

    def save(self, folder: Path) -> None:
        """Write what a later run may continue from: weights and optimisers."""

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; never execute what is in the file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or of another learner.
        """


class LearnerRegistry(Registry[Learner]):
    """Learners by spec; ``parse`` checks one before there is an environment for it."""

    def parse(self, spec: str, *, trusted: bool = True) -> tuple[type[Learner], dict[str, Any]]:
        """The class that a spec names, and its settings; see ``Registry.build``."""
        learner, text = self._split(spec, trusted=trusted)
        if not hasattr(learner, "action_spaces"):
            raise ValueError(
                f"{spec!r} is no learner: see the protocol Learner, or put an algorithm of "
                "stable-baselines3 into a class that derives from StableBaselinesLearner"
            )
        return learner, self._parse(text, self._settable(learner), spec)  # type: ignore[return-value]

    def describe(self) -> str:
        """All names. Settings are too many for a list; an unknown one is answered with them."""
        return ", ".join(self)


LEARNERS = LearnerRegistry(
    "learner", context=("env", "seed", "device", "timesteps", "replay_gib", "announce")
)


def build_learner(
    spec: str,
    env: GlanceFocusVectorEnv,
    *,
    seed: int,
    device: str | torch.device,
    timesteps: int,
    **options: Any,
) -> Learner:
    """Build the learner of a spec; see ``Learner`` for the arguments.

    ``options`` are ``replay_gib`` and ``announce``, for learners that take them.

    Raises:
        ValueError: There is no such learner, or it does not take the actions or a setting.
    """
    learner, settings = LEARNERS.parse(spec)
    _check_actions(learner, spec, env.actions)
    # A learner that resets without a seed draws the same images in every run all the same.
    env.np_random = np.random.default_rng(seed)
    taken = inspect.signature(learner).parameters
    settings |= {name: value for name, value in options.items() if name in taken}
    return learner(env, seed=seed, device=torch.device(device), timesteps=timesteps, **settings)


def choose_actions(spec: str, actions: str | None, *, trusted: bool = True) -> Actions:
    """The actions for a learner.

    Args:
        spec: Of the learner.
        actions: A spec, see ``build_actions``; None for the first kind that the learner takes.
        trusted: See ``Registry.build``.

    Raises:
        ValueError: There are no such actions, or the learner does not take them.
    """
    learner, _ = LEARNERS.parse(spec, trusted=trusted)
    built = build_actions(actions or _DEFAULT_ACTIONS[learner.action_spaces[0]], trusted=trusted)
    _check_actions(learner, spec, built)
    return built


def _check_actions(learner: type[Learner], spec: str, actions: Actions) -> None:
    """Raises ``ValueError`` unless a learner takes some actions."""
    if isinstance(actions.space, learner.action_spaces):
        return
    fitting = [
        name for name in ACTIONS if isinstance(build_actions(name).space, learner.action_spaces)
    ]
    others = [
        name
        for name in LEARNERS
        if isinstance(actions.space, LEARNERS.parse(name)[0].action_spaces)
    ]
    raise ValueError(
        f"the learner {spec!r} does not take {actions.spec} actions, but "
        f"{' and '.join(fitting)} ones; {actions.spec} ones are taken by {', '.join(others)}"
    )
