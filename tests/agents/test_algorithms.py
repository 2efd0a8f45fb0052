import io
import pickle
import sys
import zipfile

import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from gfnet_agents import ALGORITHMS, Algorithm, build_agent, find_algorithm, learned_policy


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_same_seed_learns_the_same(name, make_env, small_agent):
    one, again, other = (
        weights(small_agent(name, make_env(), seed=seed).learn(48)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_every_algorithm_counts_the_steps_of_the_environment(algorithm, make_env, small_agent):
    name, kind = algorithm
    env = make_env(kind)
    taken, step = 0, env.env.step

    def count(actions):
        nonlocal taken
        taken += 8
        return step(actions)

    env.env.step = count
    agent = small_agent(name, env).learn(96)
    # Random search leaves out what comes after the episodes that it asked for.
    assert 0.5 * taken <= agent.num_timesteps <= taken


@pytest.mark.parametrize("name", ["ppo", "sac", "ars"])
def test_going_on_reads_the_weights_and_never_the_pickles(name, make_env, small_agent, tmp_path):
    agent = small_agent(name, make_env()).learn(48)
    path = tmp_path / "agent.zip"
    agent.save(path)

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickled part was loaded",))

    trapped = tmp_path / "trapped.zip"
    with zipfile.ZipFile(path) as original, zipfile.ZipFile(trapped, "w") as copy:
        for part in original.namelist():
            copy.writestr(part, pickle.dumps(Trap()) if part == "data" else original.read(part))
    sprung = tmp_path / "sprung.zip"
    with zipfile.ZipFile(path) as original, zipfile.ZipFile(sprung, "w") as copy:
        for part in original.namelist():
            content = io.BytesIO()
            torch.save(Trap(), content)
            is_weights = part == "policy.pth"
            copy.writestr(part, content.getvalue() if is_weights else original.read(part))
    with pytest.raises(ValueError, match=r"sprung\.zip does not fit"):
        small_agent(name, make_env(), parameters=sprung)
    resumed = small_agent(name, make_env(), seed=9, parameters=trapped)
    assert torch.equal(weights(agent), weights(resumed))
    if name == "ppo":
        assert resumed.policy.optimizer.state_dict()["state"]
    if name == "sac":
        assert agent.log_ent_coef != 0
        assert torch.equal(agent.log_ent_coef, resumed.log_ent_coef)
    if name == "ars":
        assert torch.equal(agent.weights, resumed.weights)


def test_parameters_of_another_agent_are_refused(make_env, small_agent, tmp_path):
    path = tmp_path / "agent.zip"
    small_agent("ppo", make_env()).save(path)
    with pytest.raises(ValueError, match=r"agent\.zip does not fit"):
        small_agent("ppo", make_env(), parameters=path, policy_kwargs={"net_arch": [8]})
    with pytest.raises(ValueError, match=r"agent\.zip does not fit"):
        small_agent("sac", make_env(), parameters=path)


def test_actions_that_an_algorithm_does_not_take_are_named(make_env):
    with pytest.raises(
        ValueError,
        match="maskable-ppo does not take continuous actions, but grid ones; continuous ones are "
        "taken by ppo, a2c, trpo, recurrent-ppo, sac, td3, ddpg, tqc, crossq, ars",
    ):
        build_agent("maskable-ppo", make_env(), seed=0)
    with pytest.raises(ValueError, match="sac .* grid ones are taken by ppo, a2c, dqn, qr-dqn, ma"):
        build_agent("sac", make_env("grid"), seed=0)


def test_settings_that_an_algorithm_does_not_take_are_named(make_env):
    with pytest.raises(ValueError, match="ppo has no setting clip, tau; it has batch_size, clip_r"):
        build_agent("ppo", make_env(), seed=0, tau=1, clip=2)
    with pytest.raises(ValueError, match="ppo refuses its settings {'learning_rate': 'fast'}"):
        build_agent("ppo", make_env(), seed=0, learning_rate="fast")


def test_networks_are_set_one_by_one(make_env):
    policy = learned_policy(
        build_agent("sac", make_env(), seed=0, timesteps=300, policy_kwargs={"net_arch": [16]})
    )
    assert policy.config["hidden_sizes"] == [16]
    sizes = {"features_extractor_kwargs": {"channels": 4, "points": 2, "width": 3}}
    policy = learned_policy(
        build_agent("crossq", make_env(), seed=0, timesteps=300, policy_kwargs=sizes)
    )
    assert policy.config["encoder"] == sizes["features_extractor_kwargs"]


class Patient(PPO):
    """One's own, with an argument more than the algorithm that it derives from."""

    def __init__(self, *arguments, patience=1, **others):
        super().__init__(*arguments, **others)
        self.patience = patience


def test_an_algorithm_of_ones_own(make_env, tmp_path, monkeypatch):
    agent = build_agent(Patient, make_env(), seed=0, patience=3)
    assert (agent.patience, agent.gamma) == (3, 0)
    with pytest.raises(ValueError, match=r"Patient has no setting calm; it has .*n_epochs.*patien"):
        build_agent(Patient, make_env(), seed=0, calm=1)
    whole = Algorithm(Patient, lambda num_envs: {"n_steps": num_envs, "batch_size": 8})
    assert build_agent(whole, make_env(), seed=0).n_steps == 8

    lines = ["from stable_baselines3 import A2C", "class Own(A2C): pass", "number = 3"]
    (tmp_path / "module_of_ones_own.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    found = find_algorithm("module_of_ones_own:Own")
    assert found.actions == ALGORITHMS["a2c"].actions
    assert build_agent("module_of_ones_own:Own", make_env("grid"), seed=0).gamma == 0
    with pytest.raises(ValueError, match="'module_of_ones_own:number' is no algorithm"):
        find_algorithm("module_of_ones_own:number")
    with pytest.raises(ValueError, match="no algorithm 'module_of_ones_own:Other' to import"):
        find_algorithm("module_of_ones_own:Other")
    with pytest.raises(ValueError, match="no algorithm 'no_such_module:Own' to import"):
        find_algorithm("no_such_module:Own")
    with pytest.raises(ValueError, match="BaseAlgorithm derives from no algorithm"):
        find_algorithm(BaseAlgorithm)
    sys.modules.pop("module_of_ones_own")


def test_an_unknown_algorithm_is_named(make_env):
    with pytest.raises(
        ValueError, match="unknown algorithm 'chance'; known: ppo, a2c, .*; or give"
    ):
        build_agent("chance", make_env(), seed=0)
