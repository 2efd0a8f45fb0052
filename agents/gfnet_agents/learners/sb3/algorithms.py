"""The algorithms of stable-baselines3 and sb3-contrib as learners, with defaults that work here."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor, nn

from gfnet_agents.learners.base import LEARNERS, passes
from gfnet_agents.learners.sb3.extractor import ObservationExtractor
from gfnet_agents.learners.sb3.learner import StableBaselinesLearner
from gfnet_agents.learners.sb3.random_search import RandomSearch, RandomSearchPolicy
from gfnet_env.env.vector import GlanceFocusVectorEnv

_BOTH: tuple[type[spaces.Space[Any]], ...] = (spaces.Box, spaces.Discrete)

_NETWORKS: dict[str, Any] = {"features_extractor_class": ObservationExtractor}
_ACTOR_CRITIC = _NETWORKS | {"net_arch": [128], "activation_fn": nn.Tanh}
_GAUSSIAN = _ACTOR_CRITIC | {
    # Wide enough to reach the next object from the first guess, narrow enough to tell its reward.
    "log_std_init": -1.0,
}
# Each look is rewarded for its own gain: a later look cannot undo what it showed.
_OWN_GAIN = {"gamma": 0.0, "gae_lambda": 1.0}
_TWO_PASSES = {"n_epochs": 2, "learning_rate": LinearSchedule(1.5e-3, 1.5e-4, 1.0)}


@LEARNERS.register("ppo")
class PPOLearner(StableBaselinesLearner, algorithm=PPO):
    """Proximal policy optimisation."""

    action_spaces = _BOTH

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return _OWN_GAIN | {
            "n_steps": 12,
            "batch_size": 2 * env.num_envs,
            "n_epochs": passes(self._timesteps),
            # Half the rate would be too slow for one pass.
            "learning_rate": LinearSchedule(3e-3, 1e-5, 1.0),
            "policy_kwargs": _GAUSSIAN,
        }


@LEARNERS.register("ppo-gfnet")
class GFNetPPOLearner(PPOLearner):
    """PPO as in the GFNet authors' code: one optimiser step on one episode of each image."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return super().defaults(env) | {
            "n_steps": env.focus_steps,
            "batch_size": env.focus_steps * env.num_envs,
            "n_epochs": 1,
            "learning_rate": 3e-4,
            "gamma": 0.7,
            "clip_range": 0.2,
            "ent_coef": 0.01,
            # Their standard deviation is 0.1, on locations in [0, 1].
            "policy_kwargs": _ACTOR_CRITIC | {"log_std_init": math.log(0.2)},
        }


@LEARNERS.register("a2c")
class A2CLearner(StableBaselinesLearner, algorithm=A2C):
    """Advantage actor-critic."""

    action_spaces = _BOTH

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return _OWN_GAIN | {
            # Each optimiser step uses up all new environment steps, so there must be many.
            "n_steps": 1,
            "learning_rate": LinearSchedule(1.5e-3, 1.5e-4, 1.0),
            "use_rms_prop": False,
            "normalize_advantage": True,
            "policy_kwargs": _GAUSSIAN,
        }


@LEARNERS.register("trpo")
class TRPOLearner(StableBaselinesLearner, algorithm=TRPO):
    """Trust region policy optimisation."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return _OWN_GAIN | {
            "n_steps": 6,
            "batch_size": 2 * env.num_envs,
            "n_critic_updates": 2,
            "learning_rate": 1.5e-3,
            "target_kl": 0.05,
            "policy_kwargs": _GAUSSIAN,
        }


@LEARNERS.register("recurrent-ppo")
class RecurrentPPOLearner(PPOLearner, algorithm=RecurrentPPO):
    """PPO with an LSTM."""

    action_spaces = (spaces.Box,)
    policy_class = "MultiInputLstmPolicy"

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        memory = {"lstm_hidden_size": 128, "enable_critic_lstm": False}
        return super().defaults(env) | _TWO_PASSES | {"policy_kwargs": _GAUSSIAN | memory}


@LEARNERS.register("maskable-ppo")
class MaskablePPOLearner(PPOLearner, algorithm=MaskablePPO):
    """PPO that looks at no cell twice."""

    action_spaces = (spaces.Discrete,)

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return super().defaults(env) | _TWO_PASSES | {"policy_kwargs": _ACTOR_CRITIC}


class _ReplayLearner(StableBaselinesLearner):
    """The defaults of all learners with a replay memory."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return {
            "gamma": 0.0,
            "learning_rate": 1e-3,
            "batch_size": 128,
            # Each transition is sampled about sixteen times, regardless of num_envs.
            "train_freq": 1,
            "gradient_steps": max(1, env.num_envs // 8),
            "learning_starts": 16 * env.num_envs,
            "policy_kwargs": _NETWORKS | {"net_arch": [128, 128]},
        }


@LEARNERS.register("sac")
class SACLearner(_ReplayLearner, algorithm=SAC):
    """Soft actor-critic."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        # Gains are mostly far below 1: a larger entropy weight would drown them.
        return super().defaults(env) | {"ent_coef": "auto_0.03"}


@LEARNERS.register("td3")
class TD3Learner(_ReplayLearner, algorithm=TD3):
    """Twin delayed deep deterministic policy gradient."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        size = env.single_action_space.shape or ()
        return super().defaults(env) | {
            # A deterministic actor needs a critic that knows locations far from the actor's.
            "learning_starts": 64 * env.num_envs,
            "action_noise": NormalActionNoise(np.zeros(size), np.full(size, 0.5)),
        }


@LEARNERS.register("ddpg")
class DDPGLearner(TD3Learner, algorithm=DDPG):
    """Deep deterministic policy gradient."""


@LEARNERS.register("tqc")
class TQCLearner(SACLearner, algorithm=TQC):
    """Truncated quantile critics."""


@LEARNERS.register("crossq")
class CrossQLearner(SACLearner, algorithm=CrossQ):
    """CrossQ: batch normalisation in place of target networks."""

    policy_class = "MlpPolicy"
    flat = True

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        defaults = super().defaults(env)
        networks = {"net_arch": {"pi": [128, 128], "qf": [256, 256]}}
        return defaults | {"policy_kwargs": defaults["policy_kwargs"] | networks}


@LEARNERS.register("ars")
class RandomSearchLearner(StableBaselinesLearner, algorithm=RandomSearch):
    """Augmented random search."""

    agent: RandomSearch
    policy_class = RandomSearchPolicy

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return {
            "n_delta": 8,
            "n_top": 4,
            "n_eval_episodes": env.num_envs,
            "learning_rate": 0.05,
            "delta_std": 0.1,
            # All-zero weights are a saddle point, where no single weight matters.
            "zero_policy": False,
        }

    def _set_weights(self, parameters: dict[str, Any], variables: Mapping[str, Tensor]) -> None:
        super()._set_weights(parameters, variables)
        # It searches around a copy of the policy's weights.
        weights = nn.utils.parameters_to_vector(self.agent.policy.parameters())
        self.agent.weights = weights.detach()  # type: ignore[assignment]


@LEARNERS.register("dqn")
class DQNLearner(_ReplayLearner, algorithm=DQN):
    """Deep Q-networks."""

    action_spaces = (spaces.Discrete,)

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        return super().defaults(env) | {
            "exploration_fraction": 0.5,
            "target_update_interval": 10 * env.num_envs,
        }


@LEARNERS.register("qr-dqn")
class QRDQNLearner(DQNLearner, algorithm=QRDQN):
    """Quantile regression DQN."""

    def defaults(self, env: GlanceFocusVectorEnv) -> dict[str, Any]:
        defaults = super().defaults(env)
        return defaults | {"policy_kwargs": defaults["policy_kwargs"] | {"n_quantiles": 25}}
