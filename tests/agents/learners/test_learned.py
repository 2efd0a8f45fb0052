import pytest
import torch
from gymnasium.wrappers.vector import TransformAction
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from torch import nn

from gfnet_agents.learners.sb3 import ObservationExtractor, StableBaselinesVecEnv, learned_policy
from gfnet_env import EarlyExitGFNet


def test_the_assembled_network_looks_where_the_agent_does(
    algorithm, make_env, learn, locations, digits, network, tmp_path
):
    name, actions = algorithm
    env = make_env(actions)
    learner = learn(name, env)
    EarlyExitGFNet(network, learner.policy()).save(tmp_path)
    gfnet = EarlyExitGFNet.load(tmp_path)
    indices = range(8)
    found = gfnet(digits, list(indices))
    torch.testing.assert_close(found.locations, locations(learner, env, indices), atol=1e-5, rtol=0)
    assert len(found.locations.unique()) > 1

    # Images that leave take their rows of what the policy remembers with them.
    sure = found.confidence.median().item()
    gfnet.set_thresholds([sure, sure, sure, 0])
    early = gfnet(digits, list(indices))
    assert 0 < early.exit_step.float().mean() < 3
    looked = ~early.locations.isnan()
    torch.testing.assert_close(early.locations[looked], found.locations[looked])


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("ppo", "zoom"),
        ("ppo", "zoom:max_scale=2+stop"),
        ("ppo", "continuous+stop"),
        ("ppo", "grid:cells=3+stop"),
        ("maskable-ppo", "grid:cells=3+stop"),
        ("sac", "zoom+stop"),
        ("td3", "zoom+stop"),
        ("crossq", "zoom"),
        ("dqn", "grid:cells=3+stop"),
    ],
)
def test_looks_of_any_kind_are_learned(name, actions, make_env, learn, digits, network, tmp_path):
    env = make_env(actions, look_cost=0.01)
    learner = learn(name, env)
    EarlyExitGFNet(network, learner.policy()).save(tmp_path)
    gfnet = EarlyExitGFNet.load(tmp_path)
    assert gfnet.policy.actions.spec == env.actions.spec
    found = gfnet(digits)
    taken = ~found.scales.isnan()
    assert torch.equal(taken.sum(dim=1), found.exit_step)
    if "zoom" not in actions:
        assert (found.scales[taken] == 1).all()
    if "+stop" not in actions:
        assert taken.all()


def test_an_agent_that_may_not_look_twice_never_does(make_env, learn, digits, network):
    learner = learn("maskable-ppo", make_env("grid:cells=3"), timesteps=48)
    with torch.no_grad():
        # Left to itself, it would always look at the centre.
        learner.agent.policy.action_net.weight.zero_()
        learner.agent.policy.action_net.bias[4] = 5
    locations = EarlyExitGFNet(network, learner.policy())(digits).locations
    assert (locations[:, 0] == 0).all()
    for places in locations:
        assert len(places.unique(dim=0)) == 3


def test_normalisation_that_has_seen_much_is_part_of_the_layers(
    make_env, small, locations, digits, network
):
    env = make_env()
    learner = small("crossq", env)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in learner.agent.actor.latent_pi:
            for value in layer.state_dict().values():
                if value.is_floating_point():
                    value.copy_(torch.rand(value.shape, generator=generator) - 0.4 * (value != 1))
    policy = learner.policy()
    assert not any("Norm" in type(module).__name__ for module in policy.actor)
    found = EarlyExitGFNet(network, policy)(digits, list(range(8))).locations
    torch.testing.assert_close(found, locations(learner, env, range(8)), atol=1e-4, rtol=0)


def test_a_policy_of_another_make_is_not_mistaken_for_ours(make_env, small):
    env = make_env()
    with pytest.raises(TypeError, match="ObservationExtractor"):
        learned_policy(
            PPO("MultiInputPolicy", StableBaselinesVecEnv(env), n_steps=3, batch_size=12)
        )
    mixed = small("crossq", env, policy_kwargs={"activation_fn": nn.GELU})
    with pytest.raises(TypeError, match="unknown layer GELU; known: Linear, BatchRenorm, Tanh"):
        mixed.policy()
    with pytest.raises(TypeError, match="explores by use_sde"):
        small("sac", env, use_sde=True).policy()
    deep = small("recurrent-ppo", env, policy_kwargs={"n_lstm_layers": 2})
    with pytest.raises(TypeError, match="LSTM of one layer"):
        deep.policy()


def test_wrappers_that_change_what_an_agent_sees_are_refused(make_env):
    networks = {"features_extractor_class": ObservationExtractor, "net_arch": [8]}

    def agent(env):
        return PPO("MultiInputPolicy", env, n_steps=3, batch_size=12, policy_kwargs=networks)

    adapter = StableBaselinesVecEnv(make_env())
    with pytest.raises(TypeError, match="it is in VecNormalize, which may change"):
        learned_policy(agent(VecNormalize(adapter, norm_obs_keys=["memory"])))
    flipped = TransformAction(make_env(), lambda actions: -actions)
    with pytest.raises(TypeError, match="not TransformAction: a wrapper may change"):
        StableBaselinesVecEnv(flipped)
    assert learned_policy(agent(VecMonitor(adapter))).config["hidden_sizes"] == [8]


def test_an_observation_without_a_name_cannot_be_saved(make_env, small):
    class Unnamed:
        def __call__(self, state):
            return {"location": state.location}

    learner = small("ppo", make_env(observation=Unnamed()))
    with pytest.raises(ValueError, match="an object without a name"):
        learner.policy()
    assert small("ppo", make_env(observation="plain")).policy().config["observation"] == "plain"
