"""Every algorithm with each kind of action that it takes, learning for a moment."""

import numpy as np
import pytest
import torch

from gfnet_agents import ALGORITHMS, StableBaselinesVecEnv, build_agent
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.perception.geometry import lattice

GRID = 3
EVERY_KIND = [(name, kind) for name, each in ALGORITHMS.items() for kind in each.actions]

_FEW = {
    "n_steps": 3,
    "batch_size": 12,
    "learning_starts": 16,
    "gradient_steps": 2,
    "n_delta": 2,
    "n_top": 2,
    "target_update_interval": 16,
}


@pytest.fixture(params=EVERY_KIND, ids="-".join)
def algorithm(request):
    """A name in the table, and a kind of action."""
    return request.param


@pytest.fixture
def make_env(digits, network):
    """Makes an environment of eight sub-environments, with a kind of action."""

    def make(kind="continuous", **arguments):
        arguments |= {"network": network, "images": digits, "autoreset_mode": "SameStep"}
        return StableBaselinesVecEnv(GlanceFocusVectorEnv(8, actions=kind, grid=GRID, **arguments))

    return make


@pytest.fixture
def small_agent():
    """Makes an agent of a name in the table that needs few steps for an update."""

    def make(name, env, **arguments):
        settings = ALGORITHMS[name].settings
        few = {key: value for key, value in _FEW.items() if key in settings}
        if "learning_starts" in settings:
            # There, these would be the steps that a reward is summed over.
            del few["n_steps"]
        return build_agent(name, env, **{"seed": 0, "timesteps": 96} | few | arguments)

    return make


@pytest.fixture
def looks():
    """Where an agent looks in some images, one per sub-environment: (N, T - 1, 2)."""

    def run(agent, env, indices):
        env.set_options([{"indices": [index]} for index in indices])
        view = getattr(agent.env, "view", None)
        observations, state, start = env.reset(), None, np.ones(len(indices), dtype=bool)
        taken = []
        for _ in range(env.env.focus_steps):
            shown = observations if view is None else view.flatten(observations)
            kwargs = {}
            if type(agent).__name__ == "MaskablePPO":
                kwargs["action_masks"] = env.env.action_masks()
            actions, state = agent.predict(shown, state, start, deterministic=True, **kwargs)
            start[:] = False
            is_grid = env.env.single_action_space.shape == ()
            taken.append(lattice(GRID)[actions] if is_grid else torch.from_numpy(actions))
            observations = env.step(actions)[0]
        return torch.stack(taken, dim=1)

    return run
