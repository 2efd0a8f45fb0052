"""The algorithms that can learn a policy, and the shape of what they learn."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from gfnet_env.policies import LearnedPolicy, ObservationEncoder


def _observation_shapes(space: spaces.Space[Any]) -> tuple[tuple[int, int, int], int]:
    """(C, h, w) of the feature maps, and M of the memory."""
    assert isinstance(space, spaces.Dict)
    depth, height, width = space["features"].shape or ()
    (memory_size,) = space["memory"].shape or ()
    return (depth, height, width), memory_size


class ObservationExtractor(BaseFeaturesExtractor):
    """``ObservationEncoder`` as stable-baselines3's features extractor."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        encoder = ObservationEncoder(*_observation_shapes(observation_space))
        super().__init__(observation_space, encoder.output_size)
        self.encoder = encoder

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        return self.encoder(observations)


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of stable-baselines3 and the settings that work here.

    Attributes:
        algorithm_class: Its class.
        defaults: Arguments of its constructor, for a number of sub-environments.
    """

    algorithm_class: type[OnPolicyAlgorithm]
    defaults: Callable[[int], dict[str, Any]]


_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}

_ACTOR_CRITIC = {
    "features_extractor_class": ObservationExtractor,
    "net_arch": [128],
    "activation_fn": nn.Tanh,
    # Wide enough to reach the next object from the first guess, narrow enough to tell its reward.
    "log_std_init": -1.0,
}


def _ppo_defaults(num_envs: int) -> dict[str, Any]:
    return {
        "n_steps": 12,
        # Fresh episodes teach more than going over old ones again, and cost less.
        "batch_size": 2 * num_envs,
        "n_epochs": 2,
        "learning_rate": LinearSchedule(1.5e-3, 1.5e-4, 1.0),
        # A patch is judged by its own gain: a later patch cannot undo what it showed.
        "gamma": 0.0,
        "gae_lambda": 1.0,
        "policy_kwargs": _ACTOR_CRITIC,
    }


ALGORITHMS: dict[str, Algorithm] = {"ppo": Algorithm(PPO, _ppo_defaults)}


def build_agent(
    name: str,
    env: VecEnv,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    parameters: Path | None = None,
    deviation: float | None = None,
    minibatches: int | None = None,
    **overrides: Any,
) -> OnPolicyAlgorithm:
    """Build an agent.

    Args:
        name: Of the algorithm, see ``ALGORITHMS``.
        env: What it learns in.
        seed: Of its weights, its actions and the order of images.
        device: Where it learns.
        parameters: A saved agent to go on from: its weights and optimiser are read, the pickled
            part of the file is not.
        deviation: Standard deviation that actions begin with, in place of the default.
        minibatches: Steps of the optimiser in which an update goes once over what is new, in place
            of the default.
        overrides: Arguments of the algorithm's constructor in place of the defaults.

    Raises:
        ValueError: There is no algorithm of that name, or the parameters do not fit it.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; known: {', '.join(ALGORITHMS)}")
    algorithm = ALGORITHMS[name]
    settings = algorithm.defaults(env.num_envs) | overrides
    if deviation is not None:
        begin = {"log_std_init": math.log(deviation)}
        settings["policy_kwargs"] = settings["policy_kwargs"] | begin
    if minibatches is not None:
        new = env.num_envs * settings["n_steps"]
        if new % minibatches:
            raise ValueError(
                f"{new} steps between updates cannot be gone over in {minibatches} equal parts; "
                "choose other minibatches"
            )
        settings["batch_size"] = new // minibatches
    agent = algorithm.algorithm_class("MultiInputPolicy", env, seed=seed, device=device, **settings)
    if parameters is not None:
        try:
            agent.set_parameters(str(parameters), device=device)
        except (RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"the agent in {parameters} does not fit or is damaged: {error}"
            ) from error
    return agent


def learned_policy(agent: OnPolicyAlgorithm) -> LearnedPolicy:
    """What an agent has learned as a plain torch module, on the CPU and in evaluation mode.

    Raises:
        TypeError: The agent's networks are not those of ``ALGORITHMS``.
    """
    policy = agent.policy
    extractor = getattr(policy, "pi_features_extractor", None)
    if not isinstance(policy, ActorCriticPolicy) or not isinstance(extractor, ObservationExtractor):
        raise TypeError(
            f"cannot take the learned policy out of {type(policy).__name__}: give the agent the "
            "features extractor ObservationExtractor, or wrap its policy as a Policy yourself"
        )
    if policy.activation_fn not in _ACTIVATIONS:
        known = ", ".join(activation.__name__ for activation in _ACTIVATIONS)
        raise TypeError(f"unknown activation {policy.activation_fn.__name__}; known: {known}")
    linear = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, nn.Linear)]
    learned = LearnedPolicy(
        *_observation_shapes(agent.observation_space),
        tuple(layer.out_features for layer in linear),
        activation=_ACTIVATIONS[policy.activation_fn],
    )
    learned.encoder.load_state_dict(extractor.encoder.state_dict())
    actor = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
    learned.actor.load_state_dict(actor.state_dict())
    return learned.eval()
