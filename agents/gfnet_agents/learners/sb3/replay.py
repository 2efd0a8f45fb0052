"""The replay memory of off-policy algorithms, and its size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples

GIB = 2**30
# Bytes of the reward, end and truncation of a step in stable-baselines3.
_BYTES_BESIDE = 3 * 4


class RewardReplayBuffer(ReplayBuffer):
    """Keeps no next observations, which are not needed if the discount is zero.

    The observations of a sample stand in for them.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.next_observations = self.observations

    def add(self, obs: npt.NDArray[Any], next_obs: Any, *rest: Any) -> None:
        super().add(obs, obs, *rest)


class DictRewardReplayBuffer(DictReplayBuffer):
    """``RewardReplayBuffer`` of observations that are dicts."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.next_observations = {}

    def _get_samples(  # type: ignore[override]
        self, *arguments: Any, **named: Any
    ) -> DictReplayBufferSamples:
        samples = super()._get_samples(*arguments, **named)
        return samples._replace(next_observations=samples.observations)


@dataclass(frozen=True)
class ReplayPlan:
    """The number of environment steps that a replay memory holds, and their size in bytes."""

    steps: int
    bytes: int

    def __str__(self) -> str:
        size = f"{self.bytes / GIB:.1f} GiB"
        if self.bytes < GIB / 10:
            size = f"{self.bytes / 2**20:.1f} MiB"
        return f"replay memory: {size} for {self.steps:,} steps"


def plan_replay(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    wanted: int,
    batch_size: int,
    num_envs: int,
    next_observations: bool,
    limit_gib: float,
) -> ReplayPlan:
    """Plan a replay memory for as many steps as wanted, or as fit.

    Args:
        observation_space: Observation space of one sub-environment.
        action_space: Action space of one sub-environment.
        wanted: Number of environment steps that are useful.
        batch_size: Number of steps that an update draws.
        num_envs: Number of sub-environments; each has an equal part.
        next_observations: Whether the memory keeps next observations.
        limit_gib: Maximum size in GiB.

    Raises:
        ValueError: Not even one batch fits.
    """
    parts = observation_space.values() if isinstance(observation_space, spaces.Dict) else None
    observation = sum(_bytes(part) for part in parts or [observation_space])
    each = (2 if next_observations else 1) * observation + _bytes(action_space) + _BYTES_BESIDE
    rows = int(limit_gib * GIB // (each * num_envs))
    least = math.ceil(batch_size / num_envs)
    if rows < least:
        needed = least * num_envs * each / GIB
        raise ValueError(
            f"a replay memory of {limit_gib} GiB does not hold one batch of {batch_size} steps "
            f"from {num_envs} sub-environments; give it at least {needed:.2g} GiB, or a smaller "
            "batch"
        )
    steps = max(least, min(rows, math.ceil(wanted / num_envs))) * num_envs
    return ReplayPlan(steps, steps * each)


def _bytes(space: spaces.Space[Any]) -> int:
    return math.prod(space.shape or ()) * np.dtype(space.dtype).itemsize


def replay_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The content of a replay memory, as tensors that share its memory."""
    arrays = {name: torch.from_numpy(array) for name, array in replay_arrays(buffer).items()}
    return {"position": buffer.pos, "full": buffer.full, "arrays": arrays}


def load_replay(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    """Fill a replay memory of the same kind and size from a ``replay_state``."""
    buffer.pos, buffer.full = state["position"], state["full"]
    for name, array in replay_arrays(buffer).items():
        array[:] = state["arrays"][name].numpy()


def replay_arrays(buffer: ReplayBuffer) -> dict[str, npt.NDArray[Any]]:
    """The content of a replay memory, by name, without a copy."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        part = getattr(buffer, name, {})
        if name == "next_observations" and part is buffer.observations:
            continue
        named = part if isinstance(part, dict) else {"": part}
        for key, values in named.items():
            arrays[f"{name}.{key}" if key else name] = values[: buffer.size()]
    return arrays
