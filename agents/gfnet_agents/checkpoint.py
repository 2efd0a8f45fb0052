"""Checkpoints of an agent that learns."""

import time
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from gfnet_agents.replay import replay_arrays
from gfnet_agents.vec_env import FlatObservations, StableBaselinesVecEnv
from gfnet_agents.weights import get_variables, set_weights
from gfnet_env.training.checkpoint import Checkpoints

# Numbers that some algorithm counts by.
_COUNTERS = (
    *("num_timesteps", "_n_updates", "_n_calls", "_episode_num"),
    *("_current_progress_remaining", "exploration_rate"),
)


class AgentCheckpoints(BaseCallback):
    """Saves an agent between two updates, and lets one go on from there.

    A checkpoint holds the agent's weights, its optimisers, what its replay memory holds, where each
    of its environments is, and the state of the generators that it draws from. What goes on from
    one learns what an agent that was not interrupted would, bit for bit; but for augmented random
    search, which has drawn its next candidates by then, and draws others.

    Args:
        checkpoints: Where to.
        minutes: Between two checkpoints.
    """

    def __init__(self, checkpoints: Checkpoints, minutes: float) -> None:
        super().__init__()
        self._checkpoints, self._minutes = checkpoints, minutes
        self._saved_at = time.monotonic()

    def restore(self, agent: BaseAlgorithm) -> bool:
        """Put an agent of the same making where the latest checkpoint was written.

        Returns:
            Whether there was one. ``learn`` must then not reset the number of steps.

        Raises:
            ValueError: The checkpoint is damaged.
        """
        state = self._checkpoints.load(torch.device("cpu"))
        if state is None:
            return False
        set_weights(agent, state["parameters"], state["variables"])
        for name, value in state["counters"].items():
            setattr(agent, name, value)
        if isinstance(agent, OffPolicyAlgorithm):
            _restore_replay(agent, state["replay"])
        agent._last_obs = _env(agent).load_state_dict(state["env"])  # type: ignore[assignment]
        agent._last_episode_starts = state["episode_starts"].numpy()
        if state["recurrent"]:
            actor_hidden, actor_cell, *critic = (
                value.to(agent.device) for value in state["recurrent"]
            )
            agent._last_lstm_states = RNNStates(  # type: ignore[attr-defined]
                (actor_hidden, actor_cell), (critic[0], critic[1])
            )
        agent.action_space.np_random.bit_generator.state = state["actions"]
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
        # Algorithms shuffle and draw from memory by numpy's global generator, act by torch's, and
        # explore by that of the space of actions.
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        cuda = agent.device.type == "cuda"
        return {
            "parameters": agent.get_parameters(),
            "variables": get_variables(agent),
            "counters": {name: getattr(agent, name) for name in _COUNTERS if hasattr(agent, name)},
            "replay": _replay_state(agent) if isinstance(agent, OffPolicyAlgorithm) else None,
            "env": _env(agent).state_dict(),
            "episode_starts": torch.from_numpy(np.array(agent._last_episode_starts)),
            "recurrent": _recurrent_state(agent),
            "actions": agent.action_space.np_random.bit_generator.state,
            "numpy": [kind, torch.from_numpy(np.array(keys)), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(agent.device) if cuda else None,
        }

    def _on_step(self) -> bool:
        return True


def _env(agent: BaseAlgorithm) -> StableBaselinesVecEnv | FlatObservations:
    assert isinstance(agent.env, StableBaselinesVecEnv | FlatObservations)
    return agent.env


def _recurrent_state(agent: BaseAlgorithm) -> list[Tensor]:
    """Hidden and cell states of actor and critic, if the agent has any."""
    states = getattr(agent, "_last_lstm_states", None)
    return [] if states is None else [*states.pi, *states.vf]


def _replay_state(agent: OffPolicyAlgorithm) -> dict[str, Any]:
    buffer = agent.replay_buffer
    assert buffer is not None
    arrays = {name: torch.from_numpy(array) for name, array in replay_arrays(buffer).items()}
    return {"position": buffer.pos, "full": buffer.full, "arrays": arrays}


def _restore_replay(agent: OffPolicyAlgorithm, state: dict[str, Any]) -> None:
    buffer = agent.replay_buffer
    assert buffer is not None
    buffer.pos, buffer.full = state["position"], state["full"]
    for name, array in replay_arrays(buffer).items():
        array[:] = state["arrays"][name].numpy()
