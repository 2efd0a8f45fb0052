import pytest
import torch

from gfnet_agents.learners import checkpoint
from gfnet_env.runs import Run

_STEPS = 48


def test_a_learner_goes_on_as_if_it_had_never_stopped(
    algorithm, make_env, small, learn, weights, tmp_path
):
    name, actions = algorithm
    changes = {"exits": "confidence:threshold=0.9"}
    # A whole update of random search takes more steps.
    steps = 300 if name == "ars" else _STEPS
    whole = learn(name, make_env(actions, **changes), timesteps=steps)

    env = make_env(actions, **changes)
    stopped = small(name, env, timesteps=steps)
    run = Run(tmp_path)

    def interrupt():
        checkpoint.save(run, env, stopped)
        if stopped.steps >= steps / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.learn(interrupt)
    again = make_env(actions, **changes)
    going_on = small(name, again, timesteps=steps)
    checkpoint.restore(run.checkpoints, again, going_on)
    assert 0 < going_on.steps < steps
    going_on.learn(lambda: None)
    assert going_on.steps == whole.steps >= steps
    assert not torch.equal(weights(going_on), weights(stopped))
    assert torch.equal(weights(going_on), weights(whole))


def test_what_is_complete_learns_no_more(make_env, learn, small, weights, tmp_path):
    env = make_env()
    learner = learn("ppo", env)
    checkpoint.save(Run(tmp_path), env, learner)
    env = make_env()
    again = small("ppo", env)
    checkpoint.restore(Run(tmp_path).checkpoints, env, again)
    again.learn(lambda: None)
    assert again.steps == learner.steps
    assert torch.equal(weights(again), weights(learner))


def test_without_a_checkpoint_there_is_nothing_to_restore(make_env, small, weights, tmp_path):
    env = make_env()
    learner = small("ppo", env)
    before = weights(learner)
    checkpoint.restore(Run(tmp_path).checkpoints, env, learner)
    assert torch.equal(weights(learner), before)
    checkpoint.save(Run(tmp_path), env, learner)
    assert not list(tmp_path.iterdir())
