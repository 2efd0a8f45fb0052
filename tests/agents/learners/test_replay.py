import numpy as np
import pytest

from gfnet_agents.learners.sb3.replay import GIB, ReplayPlan, plan_replay, replay_arrays


@pytest.mark.parametrize("name", ["sac", "crossq", "dqn"])
@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_the_memory_takes_what_was_said(name, discount, make_env, learn):
    said = []
    actions = "grid:cells=3" if name == "dqn" else "continuous"
    options = {"timesteps": 90, "gamma": discount, "announce": said.append}
    agent = learn(name, make_env(actions), **options).agent
    buffer = agent.replay_buffer
    assert buffer.full
    taken = sum(array.nbytes for array in replay_arrays(buffer).values())
    assert agent.buffer_size == 96
    assert said == [str(ReplayPlan(96, taken))]
    assert said[0].endswith(" MiB for 96 steps")


def test_next_observations_are_kept_only_where_they_count(make_env, learn):
    for name in ("sac", "crossq"):
        agent = learn(name, make_env(), timesteps=48).agent
        sample = agent.replay_buffer.sample(5)
        assert sample.rewards.abs().max() > 0
        both = [sample.observations, sample.next_observations]
        first, following = ([x["step"], x["features"]] if name == "sac" else [x] for x in both)
        for now, then in zip(first, following, strict=True):
            np.testing.assert_array_equal(now, then)
    agent = learn("sac", make_env(), timesteps=48, gamma=0.5).agent
    sample = agent.replay_buffer.sample(20)
    progress = sample.next_observations["step"] - sample.observations["step"]
    np.testing.assert_allclose(progress, 1 / 3, rtol=1e-5)


def test_a_memory_is_as_big_as_is_wanted_or_as_fits(make_env):
    env = make_env()
    spaces = env.single_observation_space, env.single_action_space

    def plan(**changes):
        sizes = {"wanted": 1000, "batch_size": 100, "limit_gib": 1, "next_observations": False}
        return plan_replay(*spaces, num_envs=8, **sizes | changes)

    assert plan().steps == 1000
    assert plan(wanted=3).steps == 104
    assert plan(next_observations=True).bytes > 1.9 * plan().bytes
    small = plan(limit_gib=0.02)
    assert small.steps < 1000
    assert small.steps % 8 == 0
    assert 0.95 * 0.02 * GIB < small.bytes <= 0.02 * GIB
    with pytest.raises(ValueError, match=r"0\.001 GiB does not hold one batch of 100 steps .* 8"):
        plan(limit_gib=0.001)
    assert str(ReplayPlan(20_000, int(2.14 * GIB))) == "replay memory: 2.1 GiB for 20,000 steps"


def test_a_memory_that_was_asked_for_must_fit(make_env, small):
    with pytest.raises(ValueError, match=r"holds \d+ steps, not 5,000; raise the limit"):
        small("sac", make_env(), buffer_size=5000, replay_gib=0.01)
    with pytest.raises(ValueError, match="does not hold one batch"):
        small("sac", make_env(), replay_gib=1e-6)
