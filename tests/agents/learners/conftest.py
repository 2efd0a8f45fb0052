"""Every learner of stable-baselines3 with each kind of action, learning for a moment."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from gfnet_agents.learners import LEARNERS, StableBaselinesLearner
from gfnet_agents.learners.sb3.learner import settings_of
from gfnet_env import rows
from gfnet_env.env.vector import GlanceFocusVectorEnv

GRID = "grid:cells=3"
KINDS = {spaces.Box: "continuous", spaces.Discrete: GRID}
EVERY_KIND = [
    (name, KINDS[space])
    for name in LEARNERS
    if issubclass(LEARNERS.parse(name)[0], StableBaselinesLearner)
    for space in LEARNERS.parse(name)[0].action_spaces
]

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
    """A registered name, and a kind of action."""
    return request.param


@pytest.fixture
def make_env(digits, network):
    """Makes an environment of eight sub-environments, with a kind of action."""

    def make(actions="continuous", **arguments):
        arguments |= {"model": network, "images": digits, "autoreset_mode": "SameStep"}
        return GlanceFocusVectorEnv(8, actions=actions, **arguments)

    return make


@pytest.fixture
def small():
    """Makes a learner of a registered name that needs few steps for an update."""

    def make(name, env, *, seed=0, timesteps=48, replay_gib=2.0, announce=None, **arguments):
        kind = LEARNERS.parse(name)[0]
        settings = settings_of(kind.algorithm_class)
        few = {key: value for key, value in _FEW.items() if key in settings}
        options = {"replay_gib": replay_gib, "announce": announce}
        return kind(env, seed=seed, timesteps=timesteps, **options, **few | arguments)

    return make


@pytest.fixture
def learn(small):
    """The same, and lets it learn."""

    def make(*arguments, **named):
        learner = small(*arguments, **named)
        learner.learn(lambda: None)
        return learner

    return make


@pytest.fixture
def locations():
    """Where an agent looks in some images, one per sub-environment: (N, T - 1, 2)."""

    def run(learner, env, indices):
        agent = learner.agent
        adapter = getattr(agent.env, "venv", agent.env)
        adapter.set_options([{"indices": [index]} for index in indices])
        observations, state, start = agent.env.reset(), None, np.ones(len(indices), dtype=bool)
        taken = []
        for _ in range(env.focus_steps):
            kwargs = {}
            if type(agent).__name__ == "MaskablePPO":
                kwargs["action_masks"] = env.action_masks()
            actions, state = agent.predict(observations, state, start, deterministic=True, **kwargs)
            start[:] = False
            looks = env.actions.looks(torch.from_numpy(np.asarray(actions)), env._state)
            taken.append(rows.to_device(looks, "cpu").location)
            observations = agent.env.step(actions)[0]
        return torch.stack(taken, dim=1)

    return run


@pytest.fixture
def weights():
    """All weights of a learner's networks, one after the other."""

    def read(learner):
        parameters = learner.agent.policy.parameters()
        return torch.nn.utils.parameters_to_vector(parameters).detach().clone()

    return read
