import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from gfnet_agents import StableBaselinesVecEnv, build_agent, learned_policy
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.policies import load_policy, save_policy


@pytest.fixture
def env(digits):
    return StableBaselinesVecEnv(GlanceFocusVectorEnv(8, images=digits, autoreset_mode="SameStep"))


def small_agent(env, **arguments):
    return build_agent("ppo", env, **{"seed": 0, "n_steps": 3, "batch_size": 12} | arguments)


def test_a_learned_policy_does_what_the_agent_does(env, tmp_path):
    agent = small_agent(env).learn(48)
    save_policy(learned_policy(agent), tmp_path)
    policy = load_policy(tmp_path)
    observations = env.reset()
    for _ in range(3):
        actions, _ = agent.predict(observations, deterministic=True)
        tensors = {key: torch.from_numpy(value) for key, value in observations.items()}
        with torch.no_grad():
            locations, _ = policy(tensors, None)
        np.testing.assert_allclose(locations, actions, atol=1e-6)
        observations = env.step(actions)[0]


def test_the_same_seed_learns_the_same(digits):
    def weights(seed):
        vector = GlanceFocusVectorEnv(8, images=digits, autoreset_mode="SameStep")
        return small_agent(StableBaselinesVecEnv(vector), seed=seed).learn(48).policy.state_dict()

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[key]) for key, value in one.items())


def test_going_on_reads_the_weights_and_never_the_pickles(env, tmp_path):
    agent = small_agent(env).learn(24)
    path = tmp_path / "agent.zip"
    agent.save(path)

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickled part was loaded",))

    trapped = tmp_path / "trapped.zip"
    with zipfile.ZipFile(path) as original, zipfile.ZipFile(trapped, "w") as copy:
        for name in original.namelist():
            copy.writestr(name, pickle.dumps(Trap()) if name == "data" else original.read(name))
    sprung = tmp_path / "sprung.zip"
    with zipfile.ZipFile(path) as original, zipfile.ZipFile(sprung, "w") as copy:
        for name in original.namelist():
            weights = io.BytesIO()
            torch.save(Trap(), weights)
            is_weights = name == "policy.pth"
            copy.writestr(name, weights.getvalue() if is_weights else original.read(name))
    with pytest.raises(ValueError, match=r"sprung\.zip does not fit"):
        small_agent(env, parameters=sprung)
    resumed = small_agent(env, seed=9, parameters=trapped)
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[key])
    assert resumed.policy.optimizer.state_dict()["state"]


def test_parameters_of_another_agent_are_refused(env, tmp_path):
    path = tmp_path / "agent.zip"
    small_agent(env).save(path)
    with pytest.raises(ValueError, match=r"agent\.zip does not fit"):
        small_agent(env, parameters=path, policy_kwargs={"net_arch": [8]})


def test_an_unknown_algorithm_is_named(env):
    with pytest.raises(ValueError, match="unknown algorithm 'chance'; known: ppo"):
        build_agent("chance", env, seed=0)


def test_a_policy_of_another_make_is_not_mistaken_for_ours(env):
    agent = PPO("MultiInputPolicy", env, n_steps=3, batch_size=12)
    with pytest.raises(TypeError, match="ObservationExtractor"):
        learned_policy(agent)
