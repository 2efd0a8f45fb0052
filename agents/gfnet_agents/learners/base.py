"""The learner protocol: a learner trains a policy, with any library."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from gfnet_env.actions import ACTIONS, Actions, build_actions
from gfnet_env.contracts import explained
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import Policy
from gfnet_env.registry import Registry

# With so many steps, one pass of PPO over each rollout learns as much as two.
_MANY = 20_000
_DEFAULT_ACTIONS: dict[type[spaces.Space[Any]], str] = {
    spaces.Box: "continuous",
    spaces.Discrete: "grid",
}


class Learner(Protocol):
    """Learns a policy in a vector environment.

    Its settings are further keyword arguments of its constructor, with types and defaults; a spec
    sets them, ``NAME:key=value,…``. It may also take ``replay_gib`` (maximum size of a replay
    memory in GiB) and ``announce`` (a function that shows a line to the user).

    Args:
        env: The environment to learn in. It has not been reset yet, and a reset without a seed uses
            ``seed``.
        seed: Seed of its weights, its actions and the order of images.
        device: Device to learn on.
        timesteps: Number of environment steps to learn for.
        settings: Its own settings.

    Attributes:
        action_spaces: Action spaces that it supports, ``Box``, ``Discrete`` or both; the first one
            is the default.
        autoreset_mode: When its environment begins the next episode.
        steps: Environment steps so far, of all sub-environments together.
        mean_return: Mean return of recent episodes, for the progress bar.
        metrics: The latest logged values, by TensorBoard tag. Assign a new dict each time: changing
            the old one in place logs nothing.

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
        """Learn until ``steps`` reaches ``timesteps``; whole updates may go beyond.

        Reset the environment first, unless ``load_state_dict`` was called.

        Args:
            callback: Function to call before the first update, between updates and after the last
                update, whenever ``state_dict`` and ``policy`` are consistent. An exception from it
                ends the learning.
        """

    def policy(self) -> Policy:
        """The current policy: a copy in evaluation mode, for the assembled network."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that further learning depends on, so that it can resume bit for bit.

        The run itself saves the environment and the global generators of torch and numpy.

        Returns:
            Tensors, numbers, strings, and lists and dicts of such.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a ``state_dict``.

        The environment has been restored before, in the middle of its episodes: do not reset it,
        but go on from its ``observations()``.
        """

    def save(self, folder: Path) -> None:
        """Write everything that a later run needs to continue: weights and optimisers."""

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; never execute code from the file.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is damaged, or belongs to another learner.
        """


class LearnerRegistry(Registry[Learner]):
    """Learners by spec; ``parse`` checks a spec before its environment exists."""

    def parse(self, spec: str, *, trusted: bool = True) -> tuple[type[Learner], dict[str, Any]]:
        """The class that a spec names, and its settings; see ``Registry.build``."""
        learner, text = self._split(spec, trusted=trusted)
        if not hasattr(learner, "action_spaces"):
            raise ValueError(
                f"{spec!r} is no learner: follow the protocol Learner, or wrap an algorithm of "
                "stable-baselines3 in a class that derives from StableBaselinesLearner"
            )
        return learner, self._parse(text, self._settable(learner), spec)  # type: ignore[return-value]

    def describe(self) -> str:
        """List all names, without their many settings, which the error for an unknown one lists."""
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

    ``options`` may hold ``replay_gib`` and ``announce``, for learners that take them.

    Raises:
        ValueError: There is no such learner, or it does not support the actions or a setting.
    """
    learner, settings = LEARNERS.parse(spec)
    _check_actions(learner, spec, env.actions)
    # So a learner that resets without a seed still draws the same images in every run.
    env.np_random = np.random.default_rng(seed)
    taken = inspect.signature(learner).parameters
    settings |= {name: value for name, value in options.items() if name in taken}
    return learner(env, seed=seed, device=torch.device(device), timesteps=timesteps, **settings)


def choose_actions(spec: str, actions: str | None, *, trusted: bool = True) -> Actions:
    """Build the actions for a learner.

    Args:
        spec: Spec of the learner.
        actions: Spec of the actions, see ``build_actions``; None means the first kind that the
            learner supports.
        trusted: See ``Registry.build``.

    Raises:
        ValueError: There are no such actions, or the learner does not support them.
    """
    learner, _ = LEARNERS.parse(spec, trusted=trusted)
    built = build_actions(actions or _DEFAULT_ACTIONS[learner.action_spaces[0]], trusted=trusted)
    _check_actions(learner, spec, built)
    return built


def passes(timesteps: int) -> int:
    """Passes of PPO over each rollout, by default.

    New episodes teach more than repeated passes over old ones, and cost less, unless there are few.
    """
    return 1 if timesteps >= _MANY else 2


def takes(spec: str, actions: str | None) -> bool:
    """Whether a learner supports actions, see ``choose_actions``."""
    try:
        choose_actions(spec, actions)
    except ValueError:
        return False
    return True


@contextmanager
def reading(path: Path, learner: str) -> Iterator[None]:
    """Wrap code that loads an agent's file, so that an error names it and says what to do."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path.name} in {path.parent}; give a run of {learner}"
        )
    advice = f"; give a run of {learner} with the same settings, or restore it from a copy"
    with explained(f"the agent in {path} does not fit or is damaged", advice):
        yield


def named_observation(env: GlanceFocusVectorEnv) -> str:
    """The spec of an environment's observation; raises ``ValueError`` if it has none."""
    if env.observation_spec is None:
        raise ValueError(
            "the observation is an object without a name, and a file needs one: give the "
            "environment module:NAME, or a name of OBSERVATIONS"
        )
    return env.observation_spec


def _check_actions(learner: type[Learner], spec: str, actions: Actions) -> None:
    """Raise ``ValueError`` unless a learner supports the actions."""
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
