"""Convert an agent of stable-baselines3 to a policy, a plain torch module."""

from collections.abc import Iterable

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
from torch import Tensor, nn

from gfnet_agents.learners.base import named_observation
from gfnet_agents.learners.sb3.extractor import ObservationExtractor
from gfnet_agents.learners.sb3.vec_env import StableBaselinesVecEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import LearnedPolicy

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}
_CANNOT = "cannot take what the agent has learned out of it"
# A tanh comes after their last layer.
_SQUASHED = (SACPolicy, TQCPolicy, CrossQPolicy)


def learned_policy(agent: BaseAlgorithm) -> LearnedPolicy:
    """The policy of an agent in a ``StableBaselinesVecEnv``: plain torch, on the CPU.

    It looks where ``agent.predict(observation, deterministic=True)`` does.

    Raises:
        TypeError: The agent's networks are unknown, or a wrapper may change what it sees.
        ValueError: The observation is an object without a name, which a file could not refer to.
    """
    env, policy = _environment(agent), agent.policy
    extractor, *modules = _actor(policy)
    lstm: nn.LSTM | None = getattr(policy, "lstm_actor", None)
    linear, activations = _fold(modules)
    if isinstance(policy, QRDQNPolicy):
        linear[-1] = _mean_of(linear[-1], policy.n_quantiles)
    squashed = isinstance(policy, _SQUASHED) or activations[len(linear) - 1 :] == ["tanh"]
    hidden = activations[: len(linear) - 1]
    if len(set(hidden)) > 1:
        raise TypeError(f"hidden layers must have one activation, not {hidden}")
    learned = LearnedPolicy(
        extractor.shapes,
        [layer.out_features for layer in linear[:-1]],
        focus_steps=env.model.focus_steps,
        patch_size=env.model.view.size,
        actions=env.actions.spec,
        observation=named_observation(env),
        activation=hidden[0] if hidden else "tanh",
        squash="tanh" if squashed else "clamp",
        revisit=not isinstance(policy, MaskableActorCriticPolicy),
        recurrent_size=None if lstm is None else lstm.hidden_size,
        encoder=extractor.options,
    )
    learned.encoder.load_state_dict(extractor.encoder.state_dict())
    if learned.recurrent is not None and lstm is not None:
        learned.recurrent.load_state_dict(_cell(lstm))
    layers = (layer for layer in learned.actor if isinstance(layer, nn.Linear))
    for layer, taken in zip(layers, linear, strict=True):
        layer.load_state_dict(taken.state_dict())
    return learned.eval()


def _environment(agent: BaseAlgorithm) -> GlanceFocusVectorEnv:
    """The environment of an agent, if no wrapper changes what it sees or does."""
    env = agent.env
    while isinstance(env, VecMonitor | VecCheckNan):
        env = env.venv
    if not isinstance(env, StableBaselinesVecEnv):
        raise TypeError(
            f"{_CANNOT}: it is in {type(env).__name__}, which may change observations or actions; "
            "let it learn in StableBaselinesVecEnv itself"
        )
    return env.env


def _actor(policy: BasePolicy) -> tuple[ObservationExtractor, *tuple[nn.Module, ...]]:
    """The acting part of a policy: its features extractor, and the layers from there to the action.

    The LSTM of a recurrent policy, which lies in between, is left out.
    """
    if getattr(policy, "use_sde", False) or getattr(policy, "actor_kwargs", {}).get("use_sde"):
        raise TypeError(f"{_CANNOT}: it explores by use_sde")
    extractor: nn.Module
    layers: tuple[nn.Module, ...]
    match policy:
        case ActorCriticPolicy() | MaskableActorCriticPolicy():
            extractor = policy.pi_features_extractor
            layers = (policy.mlp_extractor.policy_net, policy.action_net)
        case SACPolicy() | TQCPolicy() | CrossQPolicy():
            extractor = policy.actor.features_extractor
            layers = (policy.actor.latent_pi, policy.actor.mu)
        case TD3Policy():
            extractor, layers = policy.actor.features_extractor, (policy.actor.mu,)
        case DQNPolicy():
            extractor, layers = policy.q_net.features_extractor, (policy.q_net.q_net,)
        case QRDQNPolicy():
            network = policy.quantile_net
            extractor, layers = network.features_extractor, (network.quantile_net,)
        case ARSPolicy():
            extractor, layers = policy.features_extractor, (policy.action_net,)
        case _:
            raise TypeError(f"{_CANNOT}: {type(policy).__name__} is of an unknown kind")
    if not isinstance(extractor, ObservationExtractor):
        raise TypeError(
            f"{_CANNOT}: its features extractor is {type(extractor).__name__}; give it "
            "ObservationExtractor, or wrap its policy as a Policy yourself"
        )
    return extractor, *layers


@torch.no_grad()
def _fold(modules: Iterable[nn.Module]) -> tuple[list[nn.Linear], list[str]]:
    """The linear layers, and the activations that follow them.

    Batch renormalisation, whose statistics are fixed after training, is folded into the linear
    layer after it.
    """
    linear: list[nn.Linear] = []
    activations: list[str] = []
    before: BatchRenorm | None = None
    leaves = (leaf for module in modules for leaf in module.modules())
    for module in leaves:
        if isinstance(module, nn.Sequential):
            continue
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


def _normalised(layer: nn.Linear, norm: BatchRenorm | None) -> nn.Linear:
    """The layer with the normalisation of its input folded in."""
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
    """Convert a layer for all quantiles of each action's value to a layer for the mean values."""
    weight = layer.weight.view(quantiles, -1, layer.in_features)
    return _linear(weight.mean(dim=0), layer.bias.view(quantiles, -1).mean(dim=0))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _cell(lstm: nn.LSTM) -> dict[str, Tensor]:
    """An LSTM's weights, under the names in an LSTM cell."""
    if lstm.num_layers > 1 or lstm.bidirectional or not lstm.bias:
        raise TypeError("only an LSTM of one layer, in one direction and with biases can be taken")
    return {name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()}
