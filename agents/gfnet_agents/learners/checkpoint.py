"""Checkpoints of a learner during learning.

A checkpoint holds the states of the learner, of its environment and of the global random
generators. So an interrupted learner learns the same as an uninterrupted one, bit for bit.
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gfnet_agents.learners.base import Learner
from gfnet_env.checkpoints import Checkpoints
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.runs import Run


def save(run: Run, env: GlanceFocusVectorEnv, learner: Learner) -> None:
    """Write a checkpoint between two updates, unless no step has been taken yet."""
    if learner.steps > 0:
        states = {"env": env.state_dict(), "learner": learner.state_dict()}
        run.save_checkpoint(learner.steps, states | {"generators": _generators()})


def restore(checkpoints: Checkpoints, env: GlanceFocusVectorEnv, learner: Learner) -> None:
    """Bring a new learner and its environment to the latest checkpoint, if there is one.

    Raises:
        ValueError: The checkpoint is damaged, or does not fit.
    """

    def put(state: Mapping[str, Any]) -> None:
        env.load_state_dict(state["env"])
        learner.load_state_dict(state["learner"])
        _restore_generators(state["generators"])

    checkpoints.restore(torch.device("cpu"), put)


def _generators() -> dict[str, Any]:
    """The states of all global generators."""
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
    # This machine may have fewer devices than the one that saved the state.
    for number, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, number)
