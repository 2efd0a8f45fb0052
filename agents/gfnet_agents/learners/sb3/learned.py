"""From an agent of stable-baselines3 to what it has learned, as a plain torch module."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.torch_layers import BatchRenorm
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from gfnet_agents.learners.sb3.extractor import ObservationExtractor
from gfnet_agents.learners.sb3.vec_env import FlatObservations, StableBaselinesVecEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import LearnedPolicy

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}
_CANNOT = "cannot take what the agent has learned out of it"
# Wrappers behind which observations and actions mean what they did.
_HARMLESS = (FlatObservations, VecMonitor, VecCheckNan)


@dataclass
class _Actor:
    """The part of an agent that picks.

    Attributes:
        extractor: What it sees.
        layers: From there to the action, the LSTM aside.
        lstm: In between, if there is one.
        squashed: Whether a tanh, which may be missing among the layers, comes last.
    """

    extractor: ObservationExtractor
    layers: tuple[nn.Module, ...]
    lstm: nn.LSTM | None = None
    squashed: bool = False


def learned_policy(agent: BaseAlgorithm) -> LearnedPolicy:
    """What an agent in a ``StableBaselinesVecEnv`` has learned: plain torch, on the CPU.

    It looks where ``agent.predict(observation, deterministic=True)`` does.

    Raises:
        TypeError: The agent's networks are of another kind than those of the learners here, or it
            learned behind a wrapper that may change observations or actions.
        ValueError: The observation is an object without a name, so that no file can say what it is.
    """
    env, actor = _environment(agent), _actor(agent.policy)
    linear, activations = _fold(actor.layers)
    if isinstance(agent.policy, QRDQNPolicy):
        linear[-1] = _mean_of(linear[-1], agent.policy.n_quantiles)
    hidden = len(linear) - 1
    squashed = actor.squashed or activations[hidden:] == ["tanh"]
    if len(set(activations[:hidden])) > 1:
        raise TypeError(f"hidden layers must have one activation, not {activations[:hidden]}")
    assert env.observation_spec is not None
    learned = LearnedPolicy(
        actor.extractor.shapes,
        [layer.out_features for layer in linear[:-1]],
        focus_steps=env.model.focus_steps,
        patch_size=env.model.view.size,
        actions=env.actions.spec,
        observation=env.observation_spec,
        activation=activations[0] if hidden else "tanh",
        squash="tanh" if squashed else "clamp",
        revisit=not isinstance(agent.policy, MaskableActorCriticPolicy),
        recurrent_size=None if actor.lstm is None else actor.lstm.hidden_size,
        encoder=actor.extractor.options,
    )
    learned.encoder.load_state_dict(actor.extractor.encoder.state_dict())
    if learned.recurrent is not None and actor.lstm is not None:
        learned.recurrent.load_state_dict(_cell(actor.lstm))
    own = (layer for layer in learned.actor if isinstance(layer, nn.Linear))
    for layer, taken in zip(own, linear, strict=True):
        layer.load_state_dict(taken.state_dict())
    return learned.eval()


def _environment(agent: BaseAlgorithm) -> GlanceFocusVectorEnv:
    """What an agent learned in, if nothing in between changes what it sees or does."""
    env = agent.env
    while isinstance(env, _HARMLESS):
        env = env.venv
    if not isinstance(env, StableBaselinesVecEnv):
        raise TypeError(
            f"{_CANNOT}: it is in {type(env).__name__}, which may change observations or actions; "
            "let it learn in StableBaselinesVecEnv itself"
        )
    if env.env.observation_spec is None:
        raise ValueError(
            "the observation is an object without a name, which no file could name: give the "
            "environment module:NAME, or a name of OBSERVATIONS"
        )
    return env.env


def _actor(policy: BasePolicy) -> _Actor:
    """The acting part of the policies that the learners here have."""
    if getattr(policy, "use_sde", False) or getattr(policy, "actor_kwargs", {}).get("use_sde"):
        raise TypeError(f"{_CANNOT}: it explores by use_sde")
    match policy:
        case ActorCriticPolicy() | MaskableActorCriticPolicy():
            layers = (policy.mlp_extractor.policy_net, policy.action_net)
            lstm = getattr(policy, "lstm_actor", None)
            return _Actor(_ours(policy.pi_features_extractor), layers, lstm)
        case SACPolicy() | TQCPolicy() | CrossQPolicy():
            actor = policy.actor
            return _Actor(
                _ours(actor.features_extractor), (actor.latent_pi, actor.mu), squashed=True
            )
        case TD3Policy():
            return _Actor(_ours(policy.actor.features_extractor), (policy.actor.mu,))
        case DQNPolicy():
            return _Actor(_ours(policy.q_net.features_extractor), (policy.q_net.q_net,))
        case QRDQNPolicy():
            network = policy.quantile_net
            return _Actor(_ours(network.features_extractor), (network.quantile_net,))
        case ARSPolicy():
            return _Actor(_ours(policy.features_extractor), (policy.action_net,))
        case _:
            raise TypeError(f"{_CANNOT}: {type(policy).__name__} is none that is known")


def _ours(extractor: nn.Module) -> ObservationExtractor:
    if not isinstance(extractor, ObservationExtractor):
        raise TypeError(
            f"{_CANNOT}: its features extractor is {type(extractor).__name__}; give it "
            "ObservationExtractor, or wrap its policy as a Policy yourself"
        )
    return extractor


@torch.no_grad()
def _fold(modules: Iterable[nn.Module]) -> tuple[list[nn.Linear], list[str]]:
    """The linear layers, and the activations that follow them.

    Batch renormalisation, whose statistics stay as they are once training is over, is part of the
    linear layer that it comes before.
    """
    linear: list[nn.Linear] = []
    activations: list[str] = []
    before: BatchRenorm | None = None
    for module in _flat(modules):
        if isinstance(module, BatchRenorm):
            before = module
        elif isinstance(module, nn.Linear):
            linear.append(_normalised(module, before))
            before = None
        elif type(module) in _ACTIVATIONS:
            activations.append(_ACTIVATIONS[type(module)])
        else:
            known = ", ".join(kind.__name__ for kind in (nn.Linear, BatchRenorm, *_ACTIVATIONS))
            raise TypeError(f"unknown layer {type(module).__name__}; known: {known}")
    return linear, activations


def _flat(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        else:
            yield module


def _normalised(layer: nn.Linear, norm: BatchRenorm | None) -> nn.Linear:
    """The layer with what normalises its input folded in."""
    weight = layer.weight.double()
    bias = torch.zeros(len(weight)).to(weight) if layer.bias is None else layer.bias.double()
    if norm is not None:
        mean, variance = norm.get_buffer("ra_mean").double(), norm.get_buffer("ra_var").double()
        scale = norm.scale.double() / (variance + norm.eps).sqrt()
        bias = bias + weight @ (norm.bias.double() - mean * scale)
        weight = weight * scale
    return _linear(weight, bias)


@torch.no_grad()
def _mean_of(layer: nn.Linear, quantiles: int) -> nn.Linear:
    """From the layer of all quantiles of each action's value to one of the mean values."""
    weight = layer.weight.view(quantiles, -1, layer.in_features)
    return _linear(weight.mean(dim=0), layer.bias.view(quantiles, -1).mean(dim=0))


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _cell(lstm: nn.LSTM) -> dict[str, torch.Tensor]:
    """An LSTM's weights by the names that a cell has for them."""
    if lstm.num_layers > 1 or lstm.bidirectional or not lstm.bias:
        raise TypeError("only an LSTM of one layer, in one direction and with biases can be taken")
    return {name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()}
