"""Learn where to look with REINFORCE in plain torch, and assemble the early-exit network.

python experiments/examples/reinforce.py
PYTHONPATH=experiments/examples python experiments/train_policy.py --algorithm reinforce:Reinforce
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch.distributions import Normal

from gfnet_env import EarlyExitGFNet
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import load_images
from gfnet_env.inference import assemble
from gfnet_env.policies import LearnedPolicy


class Reinforce:
    """A ``Learner`` that ascends the score-function gradient of the return (Williams, 1992).

    Args:
        env: The environment, with N images in parallel.
        seed: Seed of the weights, the actions and the order of images.
        device: Device of the policy.
        timesteps: Number of looks to learn from; the learning rate falls to 0 by then.
        learning_rate: Learning rate at the beginning.
        deviation: Standard deviation of the actions, on [-1, 1].
        gamma: Discount; with 0, a look is rewarded only for its own gain.
    """

    action_spaces: ClassVar = (spaces.Box,)
    autoreset_mode: ClassVar = AutoresetMode.SAME_STEP

    def __init__(
        self,
        env: GlanceFocusVectorEnv,
        *,
        seed: int,
        device: torch.device,
        timesteps: int,
        learning_rate: float = 2e-3,
        deviation: float = 0.4,
        gamma: float = 0.0,
    ) -> None:
        if not (learning_rate > 0 and deviation > 0 and 0 <= gamma <= 1):
            raise ValueError("learning_rate and deviation must be positive, gamma in [0, 1]")
        torch.manual_seed(seed)
        self.env, self.seed, self.device, self.timesteps = env, seed, device, timesteps
        self.learning_rate, self.deviation, self.gamma = learning_rate, deviation, gamma
        assert env.observation_spec is not None
        parts = {"actions": env.actions.spec, "observation": env.observation_spec}
        self.actor = LearnedPolicy.for_model(env.model, (128,), **parts).to(device)
        self.optimiser = torch.optim.Adam(self.actor.parameters(), learning_rate)
        self.steps, self.mean_return = 0, 0.0
        self.metrics: Mapping[str, float] = {}

    def learn(self, callback: Callable[[], None]) -> None:
        """Update after each episode until all timesteps are taken."""
        if self.steps == 0:
            self.env.reset(seed=self.seed)
        while self.steps < self.timesteps:
            callback()
            self._update()
        callback()

    def _update(self) -> None:
        observations, policy = self.env.observations(), self.actor
        log_probabilities, rewards, going_on = [], [], []
        for _ in range(self.env.focus_steps):
            shown = {key: torch.from_numpy(value) for key, value in observations.items()}
            observation = {key: value.to(self.device) for key, value in shown.items()}
            distribution = Normal(policy.actor(policy.encoder(observation)), self.deviation)
            actions = distribution.sample()
            log_probabilities.append(distribution.log_prob(actions).sum(dim=1))
            observations, reward, ended, _, _ = self.env.step(actions.numpy(force=True))
            rewards.append(torch.from_numpy(reward).float().to(self.device))
            going_on.append(torch.from_numpy(~ended).to(self.device))
        self.mean_return = torch.stack(rewards).sum(dim=0).mean().item()
        self.metrics = {"rollout/ep_rew_mean": self.mean_return}
        returns = [rewards.pop()]
        while rewards:
            later = going_on[len(rewards) - 1] * returns[0]
            returns.insert(0, rewards.pop() + self.gamma * later)
        # The baseline is the mean over the images, which hardly depends on an image's own action.
        advantages = [gained - gained.mean() for gained in returns]
        loss = -(torch.stack(log_probabilities) * torch.stack(advantages)).mean()
        left = 1 - self.steps / self.timesteps
        self.optimiser.param_groups[0]["lr"] = self.learning_rate * left
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.steps += len(returns) * self.env.num_envs

    def policy(self) -> LearnedPolicy:
        """The policy learned so far."""
        return copy.deepcopy(self.actor).eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that further learning depends on, except the environment."""
        optimiser = self.optimiser.state_dict()
        return {"actor": self.actor.state_dict(), "optimiser": optimiser, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called."""
        self.actor.load_state_dict(state["actor"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]

    def save(self, folder: Path) -> None:
        """Save everything that another run needs to continue."""
        torch.save(self.state_dict(), folder / "reinforce.pt")

    def load(self, folder: Path) -> None:
        """Load what ``save`` wrote."""
        state = torch.load(folder / "reinforce.pt", self.device, weights_only=True)
        self.load_state_dict(state | {"steps": 0})


def main(images: str = "cluttered-digits", updates: int = 400, seed: int = 0) -> EarlyExitGFNet:
    """Learn on the split train, solve thresholds on val, report on test.

    Args:
        images: Image set that the packaged network fits.
        updates: Number of optimiser steps, each on one episode of 64 images.
        seed: Seed of the weights, the actions and the order of images.
    """
    env = GlanceFocusVectorEnv(64, images=images, sampling="uncertain", autoreset_mode="SameStep")
    steps = updates * env.num_envs * env.focus_steps
    learner = Reinforce(env, seed=seed, device=env.model.device, timesteps=steps)
    learner.learn(lambda: None)
    gfnet = assemble(env.model, learner.policy(), load_images(images, "val"))
    record = evaluate_policy(gfnet.model, gfnet.policy, load_images(images, "test"))
    print("accuracy after each step:", *(f"{value:.1%}" for value in record.accuracy))
    return gfnet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="cluttered-digits", help="image set")
    parser.add_argument("--updates", type=int, default=400, help="number of updates")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
