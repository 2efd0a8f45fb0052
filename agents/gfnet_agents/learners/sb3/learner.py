"""An algorithm of stable-baselines3 behind the learner protocol."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from sb3_contrib import TQC, MaskablePPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr
from stable_baselines3.common.utils import safe_mean
from torch import Tensor
from torch.optim import Optimizer

from gfnet_agents.learners.base import reading
from gfnet_agents.learners.sb3.learned import learned_policy
from gfnet_agents.learners.sb3.replay import (
    DictRewardReplayBuffer,
    RewardReplayBuffer,
    load_replay,
    plan_replay,
    replay_state,
)
from gfnet_agents.learners.sb3.rollouts import InPlaceMaskableRolloutBuffer, InPlaceRolloutBuffer
from gfnet_agents.learners.sb3.vec_env import StableBaselinesVecEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.files import write_atomically
from gfnet_env.policies import LearnedPolicy
from gfnet_env.settings import Above, AtLeast, Between, Limit
from gfnet_env.training.optimisation import check_optimiser

AGENT_FILE = "agent.zip"
# Arguments that are set elsewhere or not supported; the run keeps the log.
_NOT_SETTINGS = frozenset(
    {"self", "policy", "env", "seed", "device", "tensorboard_log", "verbose", "_init_setup_model"}
)
# Counters of the algorithms.
_COUNTERS = (
    *("num_timesteps", "_n_updates", "_n_calls", "_episode_num"),
    *("_current_progress_remaining", "exploration_rate"),
)


# What algorithms raise for settings that they cannot use.
_REFUSALS = (ArithmeticError, AssertionError, MemoryError, RuntimeError, TypeError, ValueError)
# Ranges that stable-baselines3 does not check, or only once it learns.
_SHARE, _COUNT, _PASSES = Between(0, 1), AtLeast(1), Between(1, 1000)
_LIMITS: Mapping[str, Limit] = {
    **dict.fromkeys(("gamma", "gae_lambda", "tau", "exploration_fraction"), _SHARE),
    **dict.fromkeys(("exploration_initial_eps", "exploration_final_eps"), _SHARE),
    **dict.fromkeys(("n_steps", "batch_size", "buffer_size", "stats_window_size"), _COUNT),
    **dict.fromkeys(("policy_delay", "target_update_interval"), _COUNT),
    **dict.fromkeys(("n_delta", "n_top", "cg_max_steps", "sub_sampling_factor"), _COUNT),
    **dict.fromkeys(("n_epochs", "n_critic_updates"), _PASSES),
    **dict.fromkeys(("clip_range", "clip_range_vf", "max_grad_norm", "delta_std"), Above(0)),
    **dict.fromkeys(("target_kl", "cg_damping"), Above(0)),
    **dict.fromkeys(("ent_coef", "vf_coef", "learning_starts"), AtLeast(0)),
    **dict.fromkeys(("target_policy_noise", "target_noise_clip"), AtLeast(0)),
    # Within this many, nothing else happens: no checkpoint, no end.
    **dict.fromkeys(("train_freq", "n_eval_episodes"), Between(1, 10_000)),
    "gradient_steps": Between(-1, 10_000),
}


class StableBaselinesLearner:
    """An algorithm of stable-baselines3 as a ``Learner``.

    Derive from it to add an algorithm: ``class OwnLearner(PPOLearner, algorithm=OwnPPO)``.

    Its settings are the arguments of the algorithm's constructor, under stable-baselines3's names.
    They override ``defaults``; entries of ``policy_kwargs`` do so one by one. ``replay_gib`` limits
    the size of a replay memory, and ``announce`` is called with that size before it is allocated;
    writing a checkpoint temporarily takes as much again.

    Attributes:
        algorithm_class: The algorithm.
        policy_class: The policy, as the algorithm's constructor takes it.
        flat: Whether it takes observations as vectors only.
        agent: The instance of the algorithm.

    Raises:
        ValueError: A setting is unknown or refused, or a replay memory does not fit.
    """

    algorithm_class: ClassVar[type[BaseAlgorithm]]
    policy_class: ClassVar[str | type[BasePolicy]] = "MultiInputPolicy"
    flat: ClassVar[bool] = False
    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Box,)
    autoreset_mode: ClassVar = AutoresetMode.SAME_STEP
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, algorithm: type[BaseAlgorithm] | None = None) -> None:
        super().__init_subclass__()
        if algorithm is not None:
            cls.algorithm_class = algorithm
            cls.__signature__ = _signature(algorithm)

    def __init__(
        self,
        env: GlanceFocusVectorEnv,
        *,
        seed: int,
        device: str | torch.device = "cpu",
        timesteps: int,
        replay_gib: float = 2.0,
        announce: Callable[[str], object] | None = None,
        **settings: Any,
    ) -> None:
        self._check_settings(settings)
        self._timesteps = timesteps
        self._env = StableBaselinesVecEnv(env, flat=self.flat)
        defaults = self.defaults(env)
        networks = defaults.get("policy_kwargs", {}) | settings.get("policy_kwargs", {})
        if self._env.view is not None:
            own = networks.get("features_extractor_kwargs", {})
            networks["features_extractor_kwargs"] = {"view": self._env.view, **own}
        arguments = self._rollout_buffer() | defaults | settings | {"policy_kwargs": networks}
        if issubclass(self.algorithm_class, OffPolicyAlgorithm):
            arguments |= self._replay_buffer(arguments, replay_gib, announce)
        try:
            self.agent = self.algorithm_class(
                policy=self.policy_class, env=self._env, seed=seed, device=device, **arguments
            )
        except _REFUSALS as error:
            if not settings:
                raise
            raise self._refusal(settings, error) from error
        if isinstance(self.agent, TQC):
            dropped, most = self.agent.top_quantiles_to_drop_per_net, self.agent.critic.n_quantiles
            if not 0 <= dropped < most:
                raise self._refusal(
                    settings,
                    f"top_quantiles_to_drop_per_net must be at least 0 and below {most}, not "
                    f"{dropped}",
                )
        self._metrics = _Metrics()
        self.agent.set_logger(Logger(folder=None, output_formats=[self._metrics]))

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        """The default settings for an environment."""
        return {}

    @property
    def steps(self) -> int:
        return self.agent.num_timesteps

    @property
    def mean_return(self) -> float:
        episodes = self.agent.ep_info_buffer
        return safe_mean([each["r"] for each in episodes]) if episodes else 0.0

    @property
    def metrics(self) -> Mapping[str, float]:
        return self._metrics.latest

    def learn(self, callback: Callable[[], None]) -> None:
        """See ``Learner``; raises ``ValueError`` if the learning diverges."""

        def between() -> None:
            self._check_weights()
            callback()

        try:
            self.agent.learn(
                self._timesteps - self.steps,
                callback=_BetweenUpdates(between),
                reset_num_timesteps=self.steps == 0,
            )
        except ValueError as error:
            # What torch says of a distribution without finite parameters.
            if str(error).startswith("Expected parameter"):
                raise self._divergence() from error
            raise
        between()

    def policy(self) -> LearnedPolicy:
        return learned_policy(self.agent)

    def state_dict(self) -> dict[str, Any]:
        agent = self.agent
        memory = getattr(agent, "_last_lstm_states", None)
        buffer = getattr(agent, "replay_buffer", None)
        return {
            "parameters": agent.get_parameters(),
            "variables": self._variables(),
            "counters": {name: getattr(agent, name) for name in _COUNTERS if hasattr(agent, name)},
            "replay": None if buffer is None else replay_state(buffer),
            "episodes": self._env.state_dict(),
            "episode_starts": torch.from_numpy(np.array(agent._last_episode_starts)),
            "memory": [] if memory is None else [*memory.pi, *memory.vf],
            # Algorithms explore with the generator of the action space.
            "actions": agent.action_space.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        agent = self.agent
        self._set_weights(state["parameters"], state["variables"])
        for name, value in state["counters"].items():
            setattr(agent, name, value)
        buffer = getattr(agent, "replay_buffer", None)
        if buffer is not None:
            load_replay(buffer, state["replay"])
        self._env.load_state_dict(state["episodes"])
        agent._last_obs = self._env.observations()  # type: ignore[assignment]
        agent._last_episode_starts = state["episode_starts"].numpy()
        if state["memory"]:
            hidden, cell, *critic = (value.to(agent.device) for value in state["memory"])
            agent._last_lstm_states = RNNStates(  # type: ignore[attr-defined]
                (hidden, cell), (critic[0], critic[1])
            )
        agent.action_space.np_random.bit_generator.state = state["actions"]

    def save(self, folder: Path) -> None:
        """See ``Learner``; stable-baselines3 can load the file too."""
        write_atomically(folder / AGENT_FILE, lambda temporary: self.agent.save(temporary))

    def load(self, folder: Path) -> None:
        """See ``Learner``. A replay memory starts empty, and random actions fill it at first.

        The pickled part of the file is not read.
        """
        path, device = folder / AGENT_FILE, self.agent.device
        with reading(path, type(self).__name__):
            _, parameters, variables = load_from_zip_file(path, device=device, load_data=False)
            self._set_weights(parameters, variables or {})
            self._check_weights()

    def _variables(self) -> dict[str, Tensor]:
        """Tensors that the agent learns outside its networks, by name, such as its temperature."""
        _, names = self.agent._get_torch_save_params()
        return {name: recursive_getattr(self.agent, name).detach() for name in names}

    @torch.no_grad()
    def _set_weights(self, parameters: dict[str, Any], variables: Mapping[str, Tensor]) -> None:
        """Load weights in the form of ``get_parameters`` and ``_variables`` into the agent."""
        for name, state in parameters.items():
            part = recursive_getattr(self.agent, name)
            if isinstance(part, Optimizer):
                check_optimiser(part, state)
        self.agent.set_parameters(parameters, device=self.agent.device)
        own = self._variables()
        if set(own) != set(variables):
            raise ValueError(f"it has {sorted(variables)} beside its networks, not {sorted(own)}")
        for name, value in own.items():
            # In place, since an optimiser holds the tensor.
            value.copy_(variables[name])

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        unknown = sorted(settings.keys() - self.__signature__.parameters.keys())
        if unknown:
            raise ValueError(
                f"{self.algorithm_class.__name__} has no setting {', '.join(unknown)}; it has "
                f"{', '.join(sorted(settings_of(self.algorithm_class)))}"
            )
        for name, value in settings.items():
            limit = _LIMITS.get(name)
            if limit and isinstance(value, int | float) and not limit.holds(value):
                raise self._refusal(settings, f"{name} must be {limit.wanted}, not {value}")
        if "episode" in np.ravel(settings.get("train_freq", ())):
            raise self._refusal(settings, "train_freq must be in steps of all environments")
        networks = settings.get("policy_kwargs")
        layers = networks.get("net_arch") if isinstance(networks, Mapping) else None
        if any(size < 1 for size in _numbers(layers)):
            raise self._refusal(settings, f"layers need at least 1 unit, not {layers}")

    def _refusal(self, settings: Mapping[str, Any], why: object) -> ValueError:
        return ValueError(f"{self.algorithm_class.__name__} refuses its settings {settings}: {why}")

    def _check_weights(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.agent.policy.parameters()):
            raise self._divergence()

    def _divergence(self) -> ValueError:
        return ValueError(
            f"{self.algorithm_class.__name__} has diverged after {self.steps} steps: what it "
            "computes is no longer finite; lower its learning_rate"
        )

    def _rollout_buffer(self) -> dict[str, Any]:
        """The kind of rollout buffer, if there is a choice."""
        if self.flat or "rollout_buffer_class" not in self.__signature__.parameters:
            return {}
        maskable = issubclass(self.algorithm_class, MaskablePPO)
        kind = InPlaceMaskableRolloutBuffer if maskable else InPlaceRolloutBuffer
        return {"rollout_buffer_class": kind}

    def _replay_buffer(
        self,
        arguments: Mapping[str, Any],
        limit_gib: float,
        announce: Callable[[str], object] | None,
    ) -> dict[str, Any]:
        """The size and kind of the replay memory."""
        chosen: dict[str, Any] = {}
        own = settings_of(self.algorithm_class)
        gamma, batch_size = (arguments.get(n, own[n].default) for n in ("gamma", "batch_size"))
        if gamma == 0 and arguments.get("replay_buffer_class") is None:
            kind = RewardReplayBuffer if self.flat else DictRewardReplayBuffer
            chosen["replay_buffer_class"] = kind
        wanted = arguments.get("buffer_size", self._timesteps)
        plan = plan_replay(
            self._env.observation_space,
            self._env.action_space,
            wanted=wanted,
            batch_size=batch_size,
            num_envs=self._env.num_envs,
            next_observations=not chosen,
            limit_gib=limit_gib,
        )
        if "buffer_size" in arguments and plan.steps < wanted:
            raise ValueError(
                f"a replay memory of {limit_gib} GiB holds {plan.steps:,} steps, not {wanted:,}; "
                "raise the limit, or leave buffer_size out"
            )
        if announce is not None:
            announce(str(plan))
        return chosen | {"buffer_size": plan.steps}


class _BetweenUpdates(BaseCallback):
    """Calls a function whenever the algorithm is about to gather new steps."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self._function = function

    def _on_rollout_start(self) -> None:
        self._function()

    def _on_step(self) -> bool:
        return True


class _Metrics(KVWriter):
    """Keeps the latest logged values of an algorithm."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        self.latest = {
            name: float(value)
            for name, value in key_values.items()
            if isinstance(value, int | float | np.number)
            and "tensorboard" not in key_excluded[name]
        }

    def close(self) -> None:
        pass


def settings_of(algorithm_class: type[BaseAlgorithm]) -> dict[str, inspect.Parameter]:
    """The parameters of an algorithm's constructor that may be set, by name."""
    settings: dict[str, inspect.Parameter] = {}
    for each in algorithm_class.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = inspect.signature(vars(each)["__init__"], eval_str=True).parameters
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        settings = {name: p for name, p in parameters.items() if p.kind in named} | settings
        # Unnamed arguments are passed on to the base class.
        if all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    # Returns over several steps exist neither for observations of several arrays nor with our
    # replay memory.
    without = {"n_steps"} if issubclass(algorithm_class, OffPolicyAlgorithm) else set()
    return {name: p for name, p in settings.items() if name not in _NOT_SETTINGS | without}


def _signature(algorithm_class: type[BaseAlgorithm]) -> inspect.Signature:
    """The constructor's signature with an algorithm's settings in place of ``**settings``."""
    own = inspect.signature(StableBaselinesLearner.__init__, eval_str=True).parameters.values()
    settings = (
        # The algorithm's defaults differ from the learner's, which depend on the environment.
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty)
        for each in settings_of(algorithm_class).values()
    )
    named = [each for each in own if each.name not in ("self", "settings")]
    return inspect.Signature([*named, *settings])


def _numbers(tree: Any) -> Iterator[float]:
    """All numbers in nested lists and mappings."""
    if isinstance(tree, int | float):
        yield tree
    elif isinstance(tree, Mapping):
        yield from _numbers(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for each in tree:
            yield from _numbers(each)
