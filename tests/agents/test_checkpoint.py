import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from gfnet_agents.checkpoint import AgentCheckpoints
from gfnet_env.training.checkpoint import Checkpoints

_STEPS = 96


class Interrupt(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self._at = at

    def _on_step(self):
        if self.num_timesteps >= self._at:
            raise KeyboardInterrupt
        return True


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


def test_an_agent_goes_on_as_if_it_had_never_stopped(algorithm, make_env, small_agent, tmp_path):
    name, kind = algorithm
    if name == "ars":
        pytest.skip("draws other candidates when it goes on")

    def agent():
        return small_agent(name, make_env(kind, exit_confidence=0.9))

    whole = agent().learn(_STEPS)
    saving = AgentCheckpoints(Checkpoints(tmp_path), minutes=0)
    stopped = agent()
    with pytest.raises(KeyboardInterrupt):
        stopped.learn(_STEPS, callback=[saving, Interrupt(at=64)])
    going_on = agent()
    assert AgentCheckpoints(Checkpoints(tmp_path), minutes=0).restore(going_on)
    assert 0 < going_on.num_timesteps < _STEPS
    going_on.learn(_STEPS - going_on.num_timesteps, reset_num_timesteps=False)
    assert going_on.num_timesteps == whole.num_timesteps == _STEPS
    assert not torch.equal(weights(going_on), weights(stopped))
    assert torch.equal(weights(going_on), weights(whole))


def test_random_search_goes_on_from_its_weights(make_env, small_agent, tmp_path):
    agent = small_agent("ars", make_env())
    checkpoints = Checkpoints(tmp_path)
    agent.learn(200, callback=AgentCheckpoints(checkpoints, minutes=0))
    going_on = small_agent("ars", make_env(), seed=1)
    assert AgentCheckpoints(checkpoints, minutes=0).restore(going_on)
    torch.testing.assert_close(going_on.weights, weights(going_on))
    steps = going_on.num_timesteps
    before = going_on.weights.clone()
    going_on.learn(8, reset_num_timesteps=False)
    assert going_on.num_timesteps > steps
    assert 0 < (going_on.weights - before).norm() < before.norm()


def test_without_a_checkpoint_there_is_nothing_to_restore(make_env, small_agent, tmp_path):
    agent = small_agent("ppo", make_env())
    assert not AgentCheckpoints(Checkpoints(tmp_path), minutes=0).restore(agent)
