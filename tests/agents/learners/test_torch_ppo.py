import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from gfnet_agents.learners import LEARNERS, TorchPPOLearner, build_learner, checkpoint
from gfnet_agents.learners.torch_ppo import _batches, _first_steps, _Rollout
from gfnet_env import EarlyExitGFNet
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.policies import LearnedPolicy
from gfnet_env.runs import Run


def small(env, seed=0):
    """Learns from 96 steps, in updates of 24."""
    spec = "torch-ppo:n_steps=3,batch_size=12,n_epochs=2"
    return build_learner(spec, env, seed=seed, device="cpu", timesteps=96)


def learn(env, seed=0):
    learner = small(env, seed)
    learner.learn(lambda: None)
    return learner


def weights(learner):
    return parameters_to_vector(learner.network.parameters()).detach().clone()


@pytest.mark.parametrize("actions", ["continuous", "grid:cells=3", "zoom+stop"])
def test_steps_of_tensors_are_those_of_arrays(actions, make_env):
    exits = "confidence:threshold=0.9"
    arrays, tensors = (make_env(actions, exits=exits, look_cost=0.25) for _ in range(2))
    arrays.action_space.seed(0)
    shown, _ = arrays.reset(seed=3)
    seen = tensors.reset_tensors(seed=3)
    for _ in range(6):
        given = arrays.action_space.sample()
        final = None
        shown, rewards, terminated, _, infos = arrays.step(given)
        step = tensors.step_tensors(torch.from_numpy(given))
        seen = step.observations
        assert all(np.array_equal(shown[key], seen[key].numpy()) for key in shown)
        assert np.array_equal(rewards, step.rewards.numpy())
        assert np.array_equal(terminated, step.terminated.numpy())
        if terminated.any():
            final = infos["final_info"]["correct"][terminated]
            assert np.array_equal(final, step.correct.numpy()[terminated])
    assert final is not None


def test_what_steps_of_tensors_cannot_take_is_named(make_env):
    env = make_env()
    with pytest.raises(RuntimeError, match="nothing to step before the first reset"):
        env.step_tensors(torch.zeros(8, 2))
    env.reset_tensors(seed=0)
    with pytest.raises(ValueError, match=r"actions must be \(8, 2\), .* per image, not \(8, 3\)"):
        env.step_tensors(torch.zeros(8, 3))
    with pytest.raises(ValueError, match="look for NaN in the weights of the policy"):
        env.step_tensors(torch.full((8, 2), torch.nan))
    cells = make_env("grid:cells=3")
    cells.reset_tensors(seed=0)
    for wrong, named in (
        (torch.full((8,), 9), "9"),
        (torch.full((8,), -1), "-1"),
        (torch.zeros(8), "torch.float32"),
    ):
        with pytest.raises(
            ValueError, match=rf"must be the number of a cell in 0\.\.8, not {named}$"
        ):
            cells.step_tensors(wrong)
    env = GlanceFocusVectorEnv(8, model=env.model, images=env.images)
    env.reset_tensors(seed=0)
    with pytest.raises(ValueError, match="needs autoreset_mode='SameStep', not 'NextStep'"):
        env.step_tensors(torch.zeros(8, 2))


@pytest.mark.parametrize("gae", [{}, {"gamma": 0.7, "gae_lambda": 0.9}])
@pytest.mark.parametrize("actions", ["continuous", "grid:cells=3"])
def test_an_update_is_that_of_stable_baselines3(actions, gae, make_env):
    settings = {
        "n_steps": 6,
        "batch_size": 48,
        "n_epochs": 1,
        "ent_coef": 0.01,
        "learning_rate": 3e-4,
        **gae,
    }
    ours, theirs = (
        LEARNERS.parse(name)[0](make_env(actions), seed=0, timesteps=48, **settings)
        for name in ("torch-ppo", "ppo")
    )
    agent = theirs.agent
    _copy_weights(agent.policy, ours.network)
    _, callback = agent._setup_learn(48)
    callback.on_training_start({}, {})
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 6)
    buffer = agent.rollout_buffer
    columns = (buffer.actions, buffer.log_probs, buffer.values, buffer.rewards)
    starts = np.concatenate([buffer.episode_starts[1:], agent._last_episode_starts[None]])
    rollout = _Rollout(
        {key: torch.from_numpy(value) for key, value in buffer.observations.items()},
        *(torch.from_numpy(column) for column in columns),
        torch.from_numpy(starts).bool(),
    )
    if "grid" in actions:
        rollout.actions = rollout.actions.squeeze(2).long()
    ours._observations = {key: torch.from_numpy(each) for key, each in agent._last_obs.items()}
    before = weights(ours)
    agent.train()
    measured = ours._update(rollout)
    after = weights(ours)
    _copy_weights(agent.policy, ours.network)
    assert (after - before).abs().max() > 1e-4
    torch.testing.assert_close(after, weights(ours), atol=1e-5, rtol=0)
    logged = agent.logger.name_to_value
    for name in ("value_loss", "entropy_loss", "explained_variance"):
        assert measured[f"train/{name}"].item() == pytest.approx(
            logged[f"train/{name}"], abs=1e-5
        ), name


def test_batches_hold_whole_episodes():
    ended = torch.tensor([[0, 1], [1, 0], [0, 0], [0, 1]], dtype=torch.bool)
    first = _first_steps(ended)
    # Two sub-environments: their steps have even and odd numbers.
    assert first.tolist() == [0, 1, 0, 3, 4, 3, 4, 3]
    orders = set()
    for seed in range(20):
        torch.manual_seed(seed)
        parts = _batches(first, 3)
        order = torch.cat(parts)
        assert [len(part) for part in parts] == [3, 3, 2]
        assert order.sort().values.tolist() == list(range(8))
        # The steps of an episode are neighbours.
        assert len(first[order].unique_consecutive()) == 4
        orders.add(tuple(first[order].unique_consecutive().tolist()))
    assert len(orders) > 5
    assert [len(part) for part in _batches(first[:7], 3)] == [3, 3]


@pytest.mark.parametrize("options", [{}, {"attention": False}, {"inhibition": False}])
def test_a_known_glance_changes_nothing(options, make_env, network):
    env = make_env(exits="confidence:threshold=0.9")
    shown = env.reset_tensors(seed=0)
    policy = LearnedPolicy.for_model(network, [8], encoder=options)
    begun = env.step_tensors(torch.rand(8, 2))
    assert 0 < begun.terminated.sum() < 8
    for observation in (shown, begun.observations):
        glances = policy.encoder.embed_glance(observation["glance"])
        others = {key: each for key, each in observation.items() if key != "glance"}
        torch.testing.assert_close(
            policy.encoder(others, glances), policy.encoder(observation), atol=1e-5, rtol=0
        )


def test_the_policy_is_an_average_of_weights(make_env):
    learner, latest = small(make_env()), []
    learner.learn(lambda: latest.append(parameters_to_vector(learner.network.policy.parameters())))
    # The k-th of all weights has the share (η + 1) / (η + k) in the average so far.
    mean = latest[1]
    for number, each in enumerate(latest[2:], start=2):
        mean = mean + (each - mean) * 9 / (8 + number)
    found = parameters_to_vector(learner.policy().parameters())
    torch.testing.assert_close(found, mean, atol=1e-6, rtol=0)
    assert (found - latest[-1]).abs().max() > 1e-5
    spec = "torch-ppo:n_steps=3,average_weights=false"
    without = build_learner(spec, make_env(), seed=0, device="cpu", timesteps=48)
    without.learn(lambda: None)
    expected = parameters_to_vector(without.network.policy.parameters())
    assert torch.equal(parameters_to_vector(without.policy().parameters()), expected)


def _copy_weights(policy, network):
    """Give our network the weights of an agent of stable-baselines3."""
    linear = {
        network.policy.actor[0]: policy.mlp_extractor.policy_net[0],
        network.policy.actor[-1]: policy.action_net,
        network.critic[0]: policy.mlp_extractor.value_net[0],
        network.critic[-1]: policy.value_net,
        network.policy.encoder: policy.features_extractor.encoder,
    }
    for mine, other in linear.items():
        mine.load_state_dict(other.state_dict())
    if network.log_std is not None:
        network.log_std.data = policy.log_std.data.clone()


def test_the_same_seed_learns_the_same(make_env):
    one, again, other = (weights(learn(make_env(), seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("actions", ["continuous", "grid:cells=3"])
def test_a_learner_goes_on_as_if_it_had_never_stopped(actions, make_env, tmp_path):
    changes = {"exits": "confidence:threshold=0.9"}
    whole = learn(make_env(actions, **changes))
    assert {"rollout/ep_rew_mean", "train/value_loss"} <= whole.metrics.keys()
    assert whole.mean_return != 0
    env, run = make_env(actions, **changes), Run(tmp_path)
    stopped = small(env)

    def interrupt():
        checkpoint.save(run, env, stopped)
        if stopped.steps >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.learn(interrupt)
    again = make_env(actions, **changes)
    going_on = small(again)
    checkpoint.restore(run.checkpoints, again, going_on)
    assert going_on.steps == 48
    going_on.learn(lambda: None)
    assert torch.equal(weights(going_on), weights(whole))
    assert going_on.metrics == whole.metrics


def test_a_later_run_goes_on_from_its_weights(make_env, tmp_path):
    learner = learn(make_env())
    learner.save(tmp_path)
    again = build_learner("torch-ppo", make_env(), seed=9, device="cpu", timesteps=96)
    again.load(tmp_path)
    assert torch.equal(weights(again), weights(learner))
    assert again.steps == 0
    other = build_learner("torch-ppo:net_arch=[8]", make_env(), seed=9, device="cpu", timesteps=96)
    with pytest.raises(ValueError, match=r"the agent in .*agent\.pt does not fit or is damaged"):
        other.load(tmp_path)
    whole = (tmp_path / "agent.pt").read_bytes()
    state = torch.load(tmp_path / "agent.pt", weights_only=True)
    state["optimiser"]["state"][0]["exp_avg"] = torch.zeros(1)
    torch.save(state, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"agent\.pt .*: exp_avg of the optimiser has the shape"):
        again.load(tmp_path)
    middle = len(whole) // 2
    (tmp_path / "agent.pt").write_bytes(whole[:middle] + b"????" + whole[middle + 4 :])
    with pytest.raises(ValueError, match=r"agent\.pt .* has changed; give a run of torch-ppo"):
        again.load(tmp_path)
    (tmp_path / "agent.pt").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"the agent in .*agent\.pt does not fit or is damaged"):
        again.load(tmp_path)
    # Not with torch's advice to run what is in it.
    (tmp_path / "agent.pt").write_bytes(pickle.dumps(Path, protocol=2))
    with pytest.raises(ValueError, match=r"agent\.pt .*: it holds more than tensors"):
        again.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no agent\.pt in .*nowhere; give a run of torch"):
        again.load(tmp_path / "nowhere")


@pytest.mark.parametrize("actions", ["continuous", "grid:cells=3", "zoom+stop"])
def test_the_assembled_network_looks_as_its_policy_does(
    actions, make_env, digits, network, tmp_path
):
    learner = learn(make_env(actions))
    EarlyExitGFNet(network, learner.policy()).save(tmp_path)
    found = EarlyExitGFNet.load(tmp_path)(digits)
    record = evaluate_policy(network, learner.policy(), digits)
    assert torch.equal(found.exit_step, torch.from_numpy(record.looks))
    assert len(found.locations[~found.locations.isnan()].unique()) > 1


def near_the_corner(transition):
    return -(transition.after.location - 0.7).abs().mean(dim=1)


def test_it_learns_what_is_rewarded(make_env):
    env = make_env(reward=near_the_corner)
    spec = "torch-ppo:n_steps=3,learning_rate=0.01,n_epochs=4"
    learner = build_learner(spec, env, seed=1, device="cpu", timesteps=360)
    returns = []
    learner.learn(lambda: returns.append(learner.mean_return))
    # Three looks in the middle, then three near the corner.
    assert returns[1] < -1.9
    assert returns[-1] > -1


def test_what_diverges_or_is_out_of_range_is_named(make_env):
    learner = TorchPPOLearner(make_env(), seed=0, timesteps=192, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"diverged after \d+ steps: .* lower its learning_rate"):
        learner.learn(lambda: None)
    for spec, message in (
        ("torch-ppo:n_epochs=0", r"n_epochs of .* must be in \[1, 1000\], not 0"),
        ("torch-ppo:gamma=7", r"gamma of .* must be in \[0, 1\], not 7"),
        ("torch-ppo:clip=2", "has no parameter 'clip'; it has :learning_rate=None,n_steps=12"),
    ):
        with pytest.raises(ValueError, match=message):
            LEARNERS.parse(spec)


@pytest.mark.parametrize(
    "setting", ["n_steps=100000000000", "clip_range=1e300", "log_std_init=1e9"]
)
def test_settings_that_no_learning_survives_are_refused(setting, make_env):
    spec = f"torch-ppo:{setting}"
    with pytest.raises(ValueError, match=f"{setting.partition('=')[0]} .*must be (in|at most)"):
        build_learner(spec, make_env(), seed=0, device="cpu", timesteps=9)


def test_an_update_of_one_step_is_refused(tiny_network, tiny_images):
    env = GlanceFocusVectorEnv(1, model=tiny_network, images=tiny_images, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="at least 2 steps at once: raise n_steps or num_envs"):
        build_learner("torch-ppo:n_steps=1", env, seed=0, device="cpu", timesteps=9)
