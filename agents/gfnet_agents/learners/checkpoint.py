"""Checkpoints of a learner at work."""

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gfnet_agents.learners.base import Learner
from gfnet_env.checkpoints import Checkpoints
from gfnet_env.env.vector import GlanceFocusVectorEnv


class LearnerCheckpoints:
    """Saves a learner between two updates, and lets one go on from there.

    A checkpoint holds the states of the learner, of its environment and of the global random
    generators. A learner that goes on from one learns what it would have without the interruption,
    bit for bit.

    Args:
        checkpoints: Where to.
        env: What it learns in.
        learner: The learner.
        minutes: Between two checkpoints.
    """

    def __init__(
        self, checkpoints: Checkpoints, env: GlanceFocusVectorEnv, learner: Learner, minutes: float
    ) -> None:
        self._checkpoints, self._env, self._learner = checkpoints, env, learner
        self._minutes = minutes
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Put a new learner where the latest checkpoint was written, if there is one.

        Raises:
            ValueError: The checkpoint is damaged.
        """
        state = self._checkpoints.load(torch.device("cpu"))
        if state is not None:
            self._env.load_state_dict(state["env"])
            self._learner.load_state_dict(state["learner"])
            _restore_generators(state["generators"])

    def save_if_due(self) -> None:
        """Write a checkpoint if the latest is old enough."""
        # Before the first steps there is nothing to save.
        steps = self._learner.steps
        if steps == 0 or time.monotonic() - self._saved_at < 60 * self._minutes:
            return
        state = {
            "env": self._env.state_dict(),
            "learner": self._learner.state_dict(),
            "generators": _generators(),
        }
        self._checkpoints.save(steps, state)
        self._saved_at = time.monotonic()


def _generators() -> dict[str, Any]:
    """The state of every global generator."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.array(keys)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _restore_generators(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy(), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    # A run may go on on a machine with fewer devices.
    for number, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, number)
