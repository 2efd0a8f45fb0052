import numpy as np
import pytest
import torch
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer


@pytest.mark.parametrize(
    ("name", "kind", "buffer"),
    [
        ("ppo", "continuous", DictRolloutBuffer),
        ("ppo", "grid:cells=3", DictRolloutBuffer),
        ("a2c", "continuous", DictRolloutBuffer),
        ("trpo", "continuous", DictRolloutBuffer),
        ("maskable-ppo", "grid:cells=3", MaskableDictRolloutBuffer),
    ],
)
def test_the_same_is_learned_as_from_copies(name, kind, buffer, make_env, learn):
    ours, theirs = (
        learn(name, make_env(kind), **chosen).agent
        for chosen in ({}, {"rollout_buffer_class": buffer})
    )
    assert type(theirs.rollout_buffer) is buffer
    assert type(ours.rollout_buffer) is not buffer
    for key, one in ours.policy.state_dict().items():
        assert torch.equal(one, theirs.policy.state_dict()[key]), key


def test_observations_stay_where_they_are(make_env, small):
    learner = small("ppo", make_env(), timesteps=48)
    agent = learner.agent
    held = dict(agent.rollout_buffer.observations)
    learner.learn(lambda: None)
    (sample,) = agent.rollout_buffer.get()
    for key, observations in sample.observations.items():
        before = held[key]
        assert agent.rollout_buffer.observations[key].rollout is before
        # A sample is a copy: what is learned from it cannot change the rollout.
        assert not np.shares_memory(observations.numpy(), before)
    agent.rollout_buffer.reset()
    assert all(agent.rollout_buffer.observations[key] is before for key, before in held.items())
