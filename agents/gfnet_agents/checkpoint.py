"""Checkpoints of an agent that learns."""

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from gfnet_agents.vec_env import StableBaselinesVecEnv
from gfnet_env.training.checkpoint import Checkpoints


class AgentCheckpoints(BaseCallback):
    """Saves an agent between two updates, and lets one go on from there.

    A checkpoint holds the agent's weights, its optimiser, where each of its environments is, and
    the state of the generators that it draws from.

    Args:
        checkpoints: Where to.
        minutes: Between two checkpoints.
    """

    def __init__(self, checkpoints: Checkpoints, minutes: float) -> None:
        super().__init__()
        self._checkpoints, self._minutes = checkpoints, minutes
        self._saved_at = time.monotonic()

    def restore(self, agent: OnPolicyAlgorithm) -> bool:
        """Put an agent of the same making where the latest checkpoint was written.

        Returns:
            Whether there was one. ``learn`` must then not reset the number of steps.

        Raises:
            ValueError: The checkpoint is damaged.
        """
        state = self._checkpoints.load(torch.device("cpu"))
        if state is None:
            return False
        env = agent.env
        assert isinstance(env, StableBaselinesVecEnv)
        agent.policy.load_state_dict(state["policy"])
        agent.policy.optimizer.load_state_dict(state["optimiser"])
        agent.num_timesteps = state["num_timesteps"]
        agent._n_updates = state["updates"]
        agent._current_progress_remaining = state["progress_remaining"]
        agent._last_obs = env.load_state_dict(state["env"])  # type: ignore[assignment]
        agent._last_episode_starts = state["episode_starts"].numpy()
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy(), *rest))  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        if agent.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], agent.device)
        return True

    def _on_rollout_start(self) -> None:
        # Before the first steps there is nothing to save.
        if self.num_timesteps == 0 or time.monotonic() - self._saved_at < 60 * self._minutes:
            return
        self._checkpoints.save(self.num_timesteps, self._state())
        self._saved_at = time.monotonic()

    def _state(self) -> dict[str, Any]:
        agent = self.model
        assert isinstance(agent, OnPolicyAlgorithm)
        env = agent.env
        assert isinstance(env, StableBaselinesVecEnv)
        # The algorithm shuffles by numpy's global generator and acts by torch's.
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        cuda = agent.device.type == "cuda"
        return {
            "policy": agent.policy.state_dict(),
            "optimiser": agent.policy.optimizer.state_dict(),
            "num_timesteps": agent.num_timesteps,
            "updates": agent._n_updates,
            "progress_remaining": agent._current_progress_remaining,
            "env": env.state_dict(),
            "episode_starts": torch.from_numpy(np.array(agent._last_episode_starts)),
            "numpy": [kind, torch.from_numpy(np.array(keys)), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(agent.device) if cuda else None,
        }

    def _on_step(self) -> bool:
        return True
