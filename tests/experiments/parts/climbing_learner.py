"""A learner: --algorithm climbing_learner:Climbing:deviation=0.2."""

import copy
import math

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from safetensors.torch import load_file, save_file

from gfnet_env.policies import LearnedPolicy


class Climbing:
    """Changes all weights at random, and keeps a change if the return of its episodes is higher.

    Args:
        env: Environment, which was not reset yet.
        seed: Seed of the changes.
        device: Device of the policy.
        timesteps: Number of looks to learn from.
        deviation: Standard deviation of a change.
    """

    action_spaces = (spaces.Box,)
    autoreset_mode = AutoresetMode.NEXT_STEP

    def __init__(self, env, *, seed, device, timesteps, deviation: float = 0.1):
        self.env, self.timesteps, self.deviation = env, timesteps, deviation
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.best = LearnedPolicy.for_model(
            env.model, (16,), actions=env.actions.spec, observation=env.observation_spec
        ).to(device)
        self.most, self.mean_return, self.metrics, self.steps = -math.inf, 0.0, {}, 0

    @torch.no_grad()
    def learn(self, callback):
        callback()
        while self.steps < self.timesteps:
            tried = copy.deepcopy(self.best)
            for weight in tried.parameters():
                change = torch.randn(weight.shape, generator=self.generator)
                weight += self.deviation * change.to(weight)
            self.mean_return = self.play(tried)
            if self.mean_return > self.most:
                self.best, self.most = tried, self.mean_return
            self.metrics = {"climbing/most": self.most}
            callback()

    def play(self, policy):
        """The mean return of one episode of every sub-environment."""
        # Nothing is under way here, so a resumed run may reset too.
        observations, _ = self.env.reset()
        total = 0.0
        for _ in range(self.env.focus_steps):
            shown = {key: torch.from_numpy(value) for key, value in observations.items()}
            observations, rewards, *_ = self.env.step(policy(shown)[0].numpy())
            total += float(rewards.mean())
            self.steps += self.env.num_envs
        return total

    def policy(self):
        return copy.deepcopy(self.best).eval()

    def state_dict(self):
        return {
            "best": self.best.state_dict(),
            "most": self.most,
            "steps": self.steps,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state):
        self.best.load_state_dict(state["best"])
        self.most, self.steps = state["most"], state["steps"]
        self.generator.set_state(state["generator"])

    def save(self, folder):
        save_file(self.best.state_dict(), folder / "climbing.safetensors")

    def load(self, folder):
        self.best.load_state_dict(load_file(folder / "climbing.safetensors"))
