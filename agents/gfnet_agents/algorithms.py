"""The algorithms that can learn a policy, and the settings that work here."""

import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from gfnet_agents.extractor import ObservationExtractor
from gfnet_agents.random_search import RandomSearch, RandomSearchPolicy
from gfnet_agents.replay import DictRewardReplayBuffer, RewardReplayBuffer, plan_replay
from gfnet_agents.rollouts import InPlaceMaskableRolloutBuffer, InPlaceRolloutBuffer
from gfnet_agents.vec_env import FlatObservations, StableBaselinesVecEnv
from gfnet_agents.weights import set_weights

# What build_agent gives itself, or what has no place in an environment of this kind.
_NOT_SETTINGS = frozenset({"self", "policy", "env", "seed", "device", "_init_setup_model"})


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of stable-baselines3 and the settings that work here.

    Attributes:
        algorithm_class: Its class.
        defaults: Arguments of its constructor, for a number of sub-environments.
        actions: The kinds of action that it takes, see ``ACTIONS``; the first is what it is given
            where nobody says.
        policy: What it learns, as its constructor takes it.
        flat: Whether it takes observations as vectors only.
    """

    algorithm_class: type[BaseAlgorithm]
    defaults: Callable[[int], dict[str, Any]]
    actions: tuple[str, ...] = ("continuous",)
    policy: str | type[BasePolicy] = "MultiInputPolicy"
    flat: bool = False

    @property
    def settings(self) -> frozenset[str]:
        """Names of what its constructor takes beside the environment, the seed and the device."""
        names: set[str] = set()
        for each in self.algorithm_class.__mro__:
            if "__init__" not in vars(each):
                continue
            parameters = inspect.signature(vars(each)["__init__"]).parameters.values()
            kinds = {parameter.kind for parameter in parameters}
            named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            names |= {parameter.name for parameter in parameters if parameter.kind in named}
            # What it does not name, it hands on.
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
        return frozenset(names) - _NOT_SETTINGS


_ACTOR_CRITIC = {
    "features_extractor_class": ObservationExtractor,
    "net_arch": [128],
    "activation_fn": nn.Tanh,
}
_GAUSSIAN = _ACTOR_CRITIC | {
    # Wide enough to reach the next object from the first guess, narrow enough to tell its reward.
    "log_std_init": -1.0,
}
# A patch is judged by its own gain: a later patch cannot undo what it showed.
_OWN_GAIN = {"gamma": 0.0, "gae_lambda": 1.0}


def _ppo_defaults(num_envs: int) -> dict[str, Any]:
    return _OWN_GAIN | {
        "n_steps": 12,
        # Fresh episodes teach more than going over old ones again, and cost less.
        "batch_size": 2 * num_envs,
        "n_epochs": 2,
        "learning_rate": LinearSchedule(1.5e-3, 1.5e-4, 1.0),
        "policy_kwargs": _GAUSSIAN,
    }


def _a2c_defaults(_: int) -> dict[str, Any]:
    return _OWN_GAIN | {
        # One step of the optimiser on all that is new, so there must be many.
        "n_steps": 1,
        "learning_rate": LinearSchedule(1.5e-3, 1.5e-4, 1.0),
        "use_rms_prop": False,
        "normalize_advantage": True,
        "policy_kwargs": _GAUSSIAN,
    }


def _trpo_defaults(num_envs: int) -> dict[str, Any]:
    return _OWN_GAIN | {
        "n_steps": 6,
        "batch_size": 2 * num_envs,
        "n_critic_updates": 2,
        "learning_rate": 1.5e-3,
        "target_kl": 0.05,
        "policy_kwargs": _GAUSSIAN,
    }


def _recurrent_defaults(num_envs: int) -> dict[str, Any]:
    memory = {"lstm_hidden_size": 128, "enable_critic_lstm": False}
    return _ppo_defaults(num_envs) | {"policy_kwargs": _GAUSSIAN | memory}


def _maskable_defaults(num_envs: int) -> dict[str, Any]:
    return _ppo_defaults(num_envs) | {"policy_kwargs": _ACTOR_CRITIC}


def _replay_defaults(num_envs: int) -> dict[str, Any]:
    return {
        "gamma": 0.0,
        "learning_rate": 1e-3,
        "batch_size": 128,
        # Every step is learned from sixteen times or so, however many come at once.
        "train_freq": 1,
        "gradient_steps": max(1, num_envs // 8),
        "learning_starts": 16 * num_envs,
        "policy_kwargs": {
            "features_extractor_class": ObservationExtractor,
            "net_arch": [128, 128],
        },
    }


def _entropy_defaults(num_envs: int) -> dict[str, Any]:
    # A gain is at most 1 and mostly far less, so that a greater weight would drown it.
    return _replay_defaults(num_envs) | {"ent_coef": "auto_0.03"}


def _noisy_defaults(num_envs: int) -> dict[str, Any]:
    return _replay_defaults(num_envs) | {
        # An actor that is certain climbs only what its critic knows of places far from it.
        "learning_starts": 64 * num_envs,
        "action_noise": NormalActionNoise(np.zeros(2), np.full(2, 0.5)),
    }


def _crossq_defaults(num_envs: int) -> dict[str, Any]:
    defaults = _entropy_defaults(num_envs)
    networks = {"net_arch": {"pi": [128, 128], "qf": [256, 256]}}
    return defaults | {"policy_kwargs": defaults["policy_kwargs"] | networks}


def _value_defaults(num_envs: int) -> dict[str, Any]:
    return _replay_defaults(num_envs) | {
        "exploration_fraction": 0.5,
        "target_update_interval": 10 * num_envs,
    }


def _quantile_defaults(num_envs: int) -> dict[str, Any]:
    defaults = _value_defaults(num_envs)
    return defaults | {"policy_kwargs": defaults["policy_kwargs"] | {"n_quantiles": 25}}


def _random_search_defaults(num_envs: int) -> dict[str, Any]:
    return {
        "n_delta": 8,
        "n_top": 4,
        "n_eval_episodes": num_envs,
        "learning_rate": 0.05,
        "delta_std": 0.1,
        # All weights zero would be a saddle: no single one of them would matter.
        "zero_policy": False,
    }


_BOTH = ("continuous", "grid")
_GRID = ("grid",)

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(PPO, _ppo_defaults, _BOTH),
    "a2c": Algorithm(A2C, _a2c_defaults, _BOTH),
    "trpo": Algorithm(TRPO, _trpo_defaults),
    "recurrent-ppo": Algorithm(RecurrentPPO, _recurrent_defaults, policy="MultiInputLstmPolicy"),
    "sac": Algorithm(SAC, _entropy_defaults),
    "td3": Algorithm(TD3, _noisy_defaults),
    "ddpg": Algorithm(DDPG, _noisy_defaults),
    "tqc": Algorithm(TQC, _entropy_defaults),
    "crossq": Algorithm(CrossQ, _crossq_defaults, policy="MlpPolicy", flat=True),
    "ars": Algorithm(RandomSearch, _random_search_defaults, policy=RandomSearchPolicy),
    "dqn": Algorithm(DQN, _value_defaults, _GRID),
    "qr-dqn": Algorithm(QRDQN, _quantile_defaults, _GRID),
    "maskable-ppo": Algorithm(MaskablePPO, _maskable_defaults, _GRID),
}


def find_algorithm(name: str | type[BaseAlgorithm] | Algorithm) -> Algorithm:
    """An algorithm.

    Args:
        name: A name in ``ALGORITHMS``; or one of one's own, as an ``Algorithm``, as a class that
            derives from that of a known one and has its defaults, or as ``module:name`` of either,
            which is imported.

    Raises:
        ValueError: There is none of that name, or it is neither.
    """
    if isinstance(name, Algorithm):
        return name
    if isinstance(name, str):
        return ALGORITHMS[name] if name in ALGORITHMS else find_algorithm(_import(name))
    known = {each.algorithm_class: each for each in ALGORITHMS.values()}
    nearest = next((known[base] for base in name.__mro__ if base in known), None)
    if nearest is None:
        raise ValueError(
            f"{name.__name__} derives from no algorithm that is known here, so that its settings "
            "are not known either: give an Algorithm of it"
        )
    return Algorithm(name, nearest.defaults, nearest.actions, nearest.policy, nearest.flat)


def _import(path: str) -> type[BaseAlgorithm] | Algorithm:
    module, _, name = path.partition(":")
    if not name:
        raise ValueError(
            f"unknown algorithm {path!r}; known: {', '.join(ALGORITHMS)}; or give module:name of "
            "your own"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no algorithm {path!r} to import: {error}") from error
    if isinstance(found, Algorithm) or (
        isinstance(found, type) and issubclass(found, BaseAlgorithm)
    ):
        return found
    raise ValueError(f"{path!r} is no algorithm: give an Algorithm, or a class of one")


def build_agent(
    name: str | type[BaseAlgorithm] | Algorithm,
    env: VecEnv,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    parameters: Path | None = None,
    timesteps: int | None = None,
    replay_gib: float = 2.0,
    announce: Callable[[str], object] | None = None,
    **overrides: Any,
) -> BaseAlgorithm:
    """Build an agent.

    Args:
        name: Of the algorithm, or one of one's own, see ``find_algorithm``.
        env: What it learns in.
        seed: Of its weights, its actions and the order of images.
        device: Where it learns.
        parameters: A saved agent to go on from: its weights and optimisers are read, the pickled
            part of the file is not. A replay memory begins empty, and is filled at first by random
            actions as that of a new agent.
        timesteps: Focus steps that it will learn from: a replay memory need not hold more.
        replay_gib: What a replay memory may take, in GiB; a checkpoint takes as much again while it
            is written.
        announce: Told what a replay memory will take, before it is taken.
        overrides: Arguments of the algorithm's constructor in place of the defaults; those in
            ``policy_kwargs`` in place of the defaults there.

    Raises:
        ValueError: There is no algorithm of that name, it does not take the environment's actions
            or a setting, a replay memory does not fit, or the parameters do not.
    """
    algorithm = find_algorithm(name)
    shown = name if isinstance(name, str) else algorithm.algorithm_class.__name__
    kind = "grid" if isinstance(env.action_space, spaces.Discrete) else "continuous"
    check_use(algorithm, shown, kind, overrides)
    settings = algorithm.defaults(env.num_envs)
    networks = settings.get("policy_kwargs", {}) | overrides.get("policy_kwargs", {})
    settings |= overrides
    if algorithm.flat and isinstance(env.observation_space, spaces.Dict):
        assert isinstance(env, StableBaselinesVecEnv)
        env = FlatObservations(env)
        networks["features_extractor_kwargs"] = {
            "view": env.view,
            **networks.get("features_extractor_kwargs", {}),
        }
    if networks:
        settings["policy_kwargs"] = networks
    settings = _rollout_settings(algorithm, env) | settings
    if issubclass(algorithm.algorithm_class, OffPolicyAlgorithm):
        settings |= _replay_settings(algorithm, settings, env, timesteps, replay_gib, announce)
    try:
        agent = algorithm.algorithm_class(
            policy=algorithm.policy, env=env, seed=seed, device=device, **settings
        )
    except (TypeError, AssertionError) as error:
        if not overrides:
            raise
        raise ValueError(f"{shown} refuses its settings {overrides}: {error}") from error
    if parameters is not None:
        _go_on_from(agent, parameters)
    return agent


def check_use(algorithm: Algorithm, name: str, kind: str, settings: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` unless an algorithm takes a kind of action and all settings.

    Args:
        algorithm: The algorithm.
        name: What messages call it.
        kind: A name in ``ACTIONS``.
        settings: Arguments for its constructor.
    """
    if kind not in algorithm.actions:
        others = ", ".join(other for other, each in ALGORITHMS.items() if kind in each.actions)
        raise ValueError(
            f"{name} does not take {kind} actions, but {' and '.join(algorithm.actions)} ones; "
            f"{kind} ones are taken by {others}"
        )
    unknown = sorted(set(settings) - algorithm.settings)
    if unknown:
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; it has "
            f"{', '.join(sorted(algorithm.settings))}"
        )


def _rollout_settings(algorithm: Algorithm, env: VecEnv) -> dict[str, Any]:
    """Kind of the rollout buffer, where there is a choice."""
    vectors = not isinstance(env.observation_space, spaces.Dict)
    if vectors or "rollout_buffer_class" not in algorithm.settings:
        return {}
    maskable = issubclass(algorithm.algorithm_class, MaskablePPO)
    return {
        "rollout_buffer_class": InPlaceMaskableRolloutBuffer if maskable else InPlaceRolloutBuffer
    }


def _replay_settings(
    algorithm: Algorithm,
    settings: Mapping[str, Any],
    env: VecEnv,
    timesteps: int | None,
    limit_gib: float,
    announce: Callable[[str], object] | None,
) -> dict[str, Any]:
    """Size and kind of the replay memory."""

    def default(name: str) -> Any:
        return inspect.signature(algorithm.algorithm_class).parameters[name].default

    chosen: dict[str, Any] = {}
    if settings.get("gamma") == 0 and settings.get("replay_buffer_class") is None:
        vectors = isinstance(env.observation_space, spaces.Box)
        chosen["replay_buffer_class"] = RewardReplayBuffer if vectors else DictRewardReplayBuffer
    wanted = settings.get("buffer_size", timesteps or default("buffer_size"))
    plan = plan_replay(
        env.observation_space,
        env.action_space,
        wanted=wanted,
        batch_size=settings.get("batch_size", default("batch_size")),
        num_envs=env.num_envs,
        next_observations=not chosen,
        limit_gib=limit_gib,
    )
    if "buffer_size" in settings and plan.steps < wanted:
        raise ValueError(
            f"a replay memory of {limit_gib} GiB holds {plan.steps:,} steps, not {wanted:,}; give "
            "it more, or leave buffer_size out"
        )
    if announce is not None:
        announce(str(plan))
    return chosen | {"buffer_size": plan.steps}


def _go_on_from(agent: BaseAlgorithm, path: Path) -> None:
    try:
        _, parameters, variables = load_from_zip_file(path, device=agent.device, load_data=False)
        set_weights(agent, parameters, variables or {})
    except (RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"the agent in {path} does not fit or is damaged: {error}") from error
