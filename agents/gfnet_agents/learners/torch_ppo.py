"""Proximal policy optimisation in plain torch: rollouts never leave the device."""

import copy
import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.nn import functional
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from gfnet_agents.learners.base import LEARNERS, named_observation, passes, reading
from gfnet_env import rows
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.files import write_bytes
from gfnet_env.policies import LearnedPolicy
from gfnet_env.settings import Above, AtLeast, AtMost, Between
from gfnet_env.training.optimisation import check_optimiser

AGENT_FILE = "agent.pt"
# η of the average of weights: the last 7% of the updates are half of it.
_ETA = 8
Observations = dict[str, Tensor]
_Share = Annotated[float, Between(0, 1)]


@dataclass
class _Rollout:
    """T steps of N sub-environments, each (T, N, …)."""

    observations: Observations
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor


@LEARNERS.register("torch-ppo")
class TorchPPOLearner:
    """PPO (Schulman et al., 2017) without stable-baselines3, and without NumPy.

    It learns as ``ppo`` does, with settings of the same names: encoder, policy, rollout and update
    are on one device, and nothing is copied from it in between.

    Args:
        env: See ``Learner``.
        seed: See ``Learner``.
        device: See ``Learner``; the device of the environment's model.
        timesteps: See ``Learner``.
        learning_rate: Step size of Adam; by default it falls linearly from 3e-3 to 1e-5.
        n_steps: Steps of each sub-environment between two updates.
        batch_size: Steps per optimiser step; by default two of each sub-environment.
        n_epochs: Passes over the steps of an update; by default one, or two if ``timesteps`` are
            fewer than 20,000.
        gamma: Discount. At 0 each look is rewarded for its own gain.
        gae_lambda: λ of generalised advantage estimation.
        clip_range: ε of the clipped objective.
        normalize_advantage: Whether to normalise the advantages of each batch.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value loss.
        max_grad_norm: Largest norm of a gradient.
        target_kl: Approximate Kullback-Leibler divergence at which an update ends; None for no
            limit.
        average_weights: Whether the policy has an average of the weights of all updates, in which
            later ones count more, in place of the latest weights.
        net_arch: Widths of the hidden layers, of the actor and of the critic.
        log_std_init: Initial logarithm of the standard deviation of actions.

    Attributes:
        network: The actor and the critic.

    Raises:
        ValueError: An update has a single step, which has no spread.
    """

    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Box, spaces.Discrete)
    autoreset_mode: ClassVar = AutoresetMode.SAME_STEP

    def __init__(
        self,
        env: GlanceFocusVectorEnv,
        *,
        seed: int,
        device: str | torch.device = "cpu",
        timesteps: int,
        learning_rate: Annotated[float | None, Above(0)] = None,
        n_steps: Annotated[int, Between(1, 10_000)] = 12,
        batch_size: Annotated[int | None, AtLeast(2)] = None,
        n_epochs: Annotated[int | None, Between(1, 1000)] = None,
        gamma: _Share = 0.0,
        gae_lambda: _Share = 1.0,
        clip_range: Annotated[float, Above(0), AtMost(1e6)] = 0.2,
        normalize_advantage: bool = True,
        ent_coef: Annotated[float, AtLeast(0)] = 0.0,
        vf_coef: Annotated[float, AtLeast(0)] = 0.5,
        max_grad_norm: Annotated[float, Above(0)] = 0.5,
        target_kl: Annotated[float | None, Above(0)] = None,
        average_weights: bool = True,
        net_arch: Annotated[tuple[int, ...], AtLeast(1)] = (128,),
        log_std_init: Annotated[float, Between(-20, 20)] = -1.0,
    ) -> None:
        if n_steps * env.num_envs < 2:
            raise ValueError(
                "torch-ppo learns from at least 2 steps at once: raise n_steps or num_envs, which "
                f"are {n_steps} and {env.num_envs}"
            )
        self._env, self._timesteps = env, timesteps
        self._learning_rate = learning_rate
        self._n_steps, self._n_epochs = n_steps, n_epochs or passes(timesteps)
        self._batch_size = batch_size or 2 * env.num_envs
        self._gamma, self._gae_lambda, self._clip_range = gamma, gae_lambda, clip_range
        self._normalize_advantage, self._target_kl = normalize_advantage, target_kl
        self._ent_coef, self._vf_coef, self._max_grad_norm = ent_coef, vf_coef, max_grad_norm
        torch.manual_seed(seed)
        policy = LearnedPolicy.for_model(
            env.model, net_arch, observation=named_observation(env), actions=env.actions.spec
        )
        self.network = _ActorCritic(policy, log_std_init).to(device)
        self._average = _averaged(self.network.policy) if average_weights else None
        self._parameters = list(self.network.parameters())
        # As in stable-baselines3.
        self._optimiser = Adam(self._parameters, eps=1e-5, fused=True)
        self._observations: Observations | None = None
        self._returns = torch.zeros(env.num_envs, device=device)
        self._steps = 0
        self._metrics: dict[str, float] = {}

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def mean_return(self) -> float:
        return self._metrics.get("rollout/ep_rew_mean", 0.0)

    @property
    def metrics(self) -> Mapping[str, float]:
        return self._metrics

    def learn(self, callback: Callable[[], None]) -> None:
        """See ``Learner``; raises ``ValueError`` if the learning diverges."""
        if self._observations is None:
            self._observations = self._env.reset_tensors()
        while self._steps < self._timesteps:
            callback()
            rollout, measured = self._collect()
            self._metrics = _on_host(measured | self._update(rollout))
            self._check_weights()
            if self._average is not None:
                self._average.update_parameters(self.network.policy)
        callback()

    def policy(self) -> LearnedPolicy:
        policy = self.network.policy if self._average is None else self._average.module
        assert isinstance(policy, LearnedPolicy)
        return copy.deepcopy(policy).cpu().eval()

    def state_dict(self) -> dict[str, Any]:
        return self._weights() | {
            "steps": self._steps,
            "average": None if self._average is None else self._average.state_dict(),
            "returns": self._returns.cpu(),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._set_weights(state)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._steps, self._metrics = state["steps"], state["metrics"]
        self._returns = state["returns"].to(self._returns.device)
        self._observations = {
            key: torch.from_numpy(value).to(self._returns.device)
            for key, value in self._env.observations().items()
        }

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        torch.save(self._weights(), buffer)
        write_bytes(folder / AGENT_FILE, buffer.getbuffer())

    def load(self, folder: Path) -> None:
        path = folder / AGENT_FILE
        with reading(path, "torch-ppo"):
            state = torch.load(path, map_location="cpu", weights_only=True)
            with zipfile.ZipFile(path) as archive:
                # Torch does not compare the checksums that it writes.
                if (changed := archive.testzip()) is not None:
                    raise ValueError(f"{changed} in it has changed")
            self._set_weights(state)
            self._check_weights()

    def _weights(self) -> dict[str, Any]:
        network, optimiser = self.network.state_dict(), self._optimiser.state_dict()
        return {"network": network, "optimiser": optimiser}

    def _set_weights(self, state: Mapping[str, Any]) -> None:
        check_optimiser(self._optimiser, state["optimiser"])
        self.network.load_state_dict(state["network"])
        if self._average is not None:
            self._average = _averaged(self.network.policy)
        self._optimiser.load_state_dict(state["optimiser"])

    def _rate(self) -> float:
        """The current learning rate."""
        if self._learning_rate is not None:
            return self._learning_rate
        return 3e-3 + (1e-5 - 3e-3) * min(self._steps / self._timesteps, 1)

    @torch.no_grad()
    def _collect(self) -> tuple[_Rollout, dict[str, Tensor]]:
        """Take ``n_steps`` steps; also returns what is to be logged about them."""
        steps: list[tuple[Tensor, ...]] = []
        seen: list[Observations] = []
        # Episodes that ended, their returns, and their right answers.
        ended = torch.zeros(3, device=self._returns.device)
        assert self._observations is not None
        glances = self.network.embed_glances(self._observations)
        for _ in range(self._n_steps):
            seen.append(self._observations)
            distribution, values = self.network(self._observations, glances)
            actions = distribution.sample()
            step = self._env.step_tensors(actions)
            log_probs = distribution.log_prob(actions)
            steps.append((actions, log_probs, values, step.rewards, step.terminated))
            self._observations, done = step.observations, step.terminated
            self._returns = self._returns + step.rewards
            ended += torch.stack([done, self._returns * done, done & step.correct]).sum(dim=1)
            self._returns = self._returns * ~done
            if glances is not None:
                begun = done.nonzero().squeeze(1)
                new = self.network.embed_glances(self._observations, begun)
                glances = rows.put(glances, begun, new)
        self._steps += self._n_steps * self._env.num_envs
        observations = {key: torch.stack([each[key] for each in seen]) for key in seen[0]}
        columns = (torch.stack(column) for column in zip(*steps, strict=True))
        count, returns, correct = ended
        return _Rollout(observations, *columns), {
            "rollout/ep_rew_mean": returns / count.clamp(min=1),
            "rollout/success_rate": correct / count.clamp(min=1),
        }

    @torch.no_grad()
    def _advantages(self, rollout: _Rollout) -> Tensor:
        """Generalised advantage estimates (Schulman et al., 2016, equation 16), (T, N)."""
        if self._gamma == 0:
            return rollout.rewards - rollout.values
        assert self._observations is not None
        _, following = self.network(
            self._observations, self.network.embed_glances(self._observations)
        )
        advantages = torch.zeros_like(rollout.values)
        advantage = torch.zeros_like(following)
        for number in reversed(range(self._n_steps)):
            goes_on = ~rollout.terminated[number]
            delta = rollout.rewards[number] + self._gamma * following * goes_on
            advantage = (
                delta
                - rollout.values[number]
                + (self._gamma * self._gae_lambda * advantage * goes_on)
            )
            advantages[number], following = advantage, rollout.values[number]
        return advantages

    def _update(self, rollout: _Rollout) -> dict[str, Tensor]:
        """Improve the network; returns what is to be logged."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        advantages = self._advantages(rollout)
        returns = (advantages + rollout.values).flatten()
        flat = [each.flatten(0, 1) for each in (rollout.actions, rollout.log_probs, advantages)]
        observations = {key: each.flatten(0, 1) for key, each in rollout.observations.items()}
        first = _first_steps(rollout.terminated)
        losses: list[Tensor] = []
        for _ in range(self._n_epochs):
            for chosen in _batches(first, self._batch_size):
                batch = [each[chosen] for each in (*flat, returns)]
                # The steps of an episode share what is read of its glance.
                begun, episodes = first[chosen].unique(return_inverse=True)
                glances = rows.select(self.network.embed_glances(observations, begun), episodes)
                seen = {
                    key: each[chosen]
                    for key, each in observations.items()
                    if key != "glance" or glances is None
                }
                distribution, values = self.network(seen, glances)
                losses.append(self._improve(distribution, values, *batch))
            if self._target_kl is not None and float(losses[-1][3]) > 1.5 * self._target_kl:
                break
        names = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
        means = torch.stack(losses).mean(0)
        logged = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        unexplained = (returns - rollout.values.flatten()).var() / returns.var()
        return logged | {"train/explained_variance": 1 - unexplained}

    def _improve(
        self,
        distribution: Distribution,
        values: Tensor,
        actions: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        returns: Tensor,
    ) -> Tensor:
        """Take one optimiser step; the losses and measures to log."""
        if self._normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = distribution.log_prob(actions) - old_log_probs
        ratio, clip = log_ratio.exp(), self._clip_range
        clipped = ratio.clamp(1 - clip, 1 + clip)
        policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
        value_loss = functional.mse_loss(values, returns)
        entropy_loss = -distribution.entropy().mean()
        loss = policy_loss + self._ent_coef * entropy_loss + self._vf_coef * value_loss
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)
        self._optimiser.step()
        divergence = (ratio - 1 - log_ratio).mean()
        outside = (ratio != clipped).float().mean()
        return torch.stack([policy_loss, value_loss, entropy_loss, divergence, outside]).detach()

    def _check_weights(self) -> None:
        finite = torch.stack([each.isfinite().all() for each in self._parameters])
        if not bool(finite.all()):
            raise ValueError(
                f"torch-ppo has diverged after {self.steps} steps: what it computes is no longer "
                "finite; lower its learning_rate"
            )


class _ActorCritic(nn.Module):
    """A policy, the spread of its actions, and a critic that shares its encoder."""

    def __init__(self, policy: LearnedPolicy, log_std_init: float) -> None:
        super().__init__()
        self.policy = policy
        sizes = [policy.encoder.output_size, *policy.config["hidden_sizes"]]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        self.critic = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        space = policy.actions.space
        self.log_std = None
        if isinstance(space, spaces.Box):
            self.log_std = nn.Parameter(torch.full(space.shape, log_std_init))
        # As in stable-baselines3: first actions near the middle.
        self.apply(lambda module: _initialise(module, math.sqrt(2)))
        _initialise(policy.actor[-1], 0.01)
        _initialise(self.critic[-1], 1.0)

    def embed_glances(
        self, observation: Mapping[str, Tensor], chosen: Tensor | None = None
    ) -> Tensor | None:
        """``ObservationEncoder.embed_glance`` of all or some rows, if the policy reads glances."""
        encoder = self.policy.encoder
        if not encoder.reads_glance:
            return None
        glance = observation["glance"]
        return encoder.embed_glance(glance if chosen is None else glance[chosen])

    def forward(
        self, observation: Mapping[str, Tensor], glances: Tensor | None = None
    ) -> tuple[Distribution, Tensor]:
        """The distribution of actions, and the values (B,); see ``ObservationEncoder``."""
        features = self.policy.encoder(observation, glances)
        chosen, values = self.policy.actor(features), self.critic(features).squeeze(1)
        if self.log_std is None:
            return Categorical(logits=chosen, validate_args=False), values
        spread = self.log_std.exp().expand_as(chosen)
        normal = Normal(chosen, spread, validate_args=False)
        return Independent(normal, 1, validate_args=False), values


def _averaged(policy: LearnedPolicy) -> AveragedModel:
    """A policy whose weights will be an average, with polynomial decay (Shamir and Zhang, 2013).

    Its share of early updates shrinks with the number of all, so it suits learning of any length.
    """

    def average(mean: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        return mean.lerp(latest, (_ETA + 1) / (_ETA + 1 + int(count)))

    return AveragedModel(policy, avg_fn=average)


def _initialise(module: nn.Module, gain: float) -> None:
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight, gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _first_steps(terminated: Tensor) -> Tensor:
    """The first step in a rollout (T, N) of the episode of each of its steps: numbers (T·N,)."""
    steps, count = terminated.shape
    begins = torch.ones_like(terminated)
    begins[1:] = terminated[:-1]
    numbers = torch.arange(steps * count, device=terminated.device).view(steps, count)
    return numbers.where(begins, 0).cummax(dim=0).values.flatten()


def _batches(first: Tensor, size: int) -> tuple[Tensor, ...]:
    """The numbers of all steps in batches of at least two, episode by episode in a random order.

    Args:
        first: See ``_first_steps``.
        size: Steps per batch.
    """
    order = torch.rand(len(first), device=first.device)[first].argsort(stable=True)
    parts = order.split(size)
    return parts if len(parts[-1]) > 1 else parts[:-1]


def _on_host(measured: Mapping[str, Tensor]) -> dict[str, float]:
    """Numbers from tensors on the device, in one transfer."""
    values = torch.stack([each.float() for each in measured.values()]).tolist()
    return dict(zip(measured, values, strict=True))
