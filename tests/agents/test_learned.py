import pytest
import torch
from sb3_contrib import CrossQ
from stable_baselines3 import PPO
from torch import nn

from gfnet_agents import learned_policy
from gfnet_env import EarlyExitGFNet


def test_the_assembled_network_looks_where_the_agent_does(
    algorithm, make_env, small_agent, looks, digits, network, tmp_path
):
    name, kind = algorithm
    env = make_env(kind)
    agent = small_agent(name, env).learn(96)
    EarlyExitGFNet(network, learned_policy(agent)).save(tmp_path)
    gfnet = EarlyExitGFNet.load(tmp_path)
    indices = range(8)
    found = gfnet(digits[list(indices)])
    torch.testing.assert_close(found.locations, looks(agent, env, indices), atol=1e-5, rtol=0)
    assert len(found.locations.unique()) > 1

    # Images that leave take their rows of what the policy remembers with them.
    sure = found.confidence.median().item()
    gfnet.set_thresholds([sure, sure, sure, 0])
    early = gfnet(digits[list(indices)])
    assert 0 < early.exit_step.float().mean() < 3
    looked = ~early.locations.isnan()
    torch.testing.assert_close(early.locations[looked], found.locations[looked])


def test_an_agent_that_may_not_look_twice_never_does(make_env, small_agent, digits, network):
    env = make_env("grid")
    agent = small_agent("maskable-ppo", env).learn(48)
    with torch.no_grad():
        # Left to itself, it would always look at the centre.
        agent.policy.action_net.weight.zero_()
        agent.policy.action_net.bias[4] = 5
    locations = EarlyExitGFNet(network, learned_policy(agent))(digits[:]).locations
    assert (locations[:, 0] == 0).all()
    for places in locations:
        assert len(places.unique(dim=0)) == 3


def test_normalisation_that_has_seen_much_is_part_of_the_layers(
    make_env, small_agent, looks, digits, network
):
    env = make_env()
    agent = small_agent("crossq", env)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in agent.actor.latent_pi:
            for value in layer.state_dict().values():
                if value.is_floating_point():
                    value.copy_(torch.rand(value.shape, generator=generator) - 0.4 * (value != 1))
    policy = learned_policy(agent)
    assert not any("Norm" in type(module).__name__ for module in policy.actor)
    found = EarlyExitGFNet(network, policy)(digits[:8]).locations
    torch.testing.assert_close(found, looks(agent, env, range(8)), atol=1e-4, rtol=0)


def test_a_policy_of_another_make_is_not_mistaken_for_ours(make_env, small_agent):
    env = make_env()
    with pytest.raises(TypeError, match="ObservationExtractor"):
        learned_policy(PPO("MultiInputPolicy", env, n_steps=3, batch_size=12))
    mixed = small_agent("crossq", env, policy_kwargs={"activation_fn": nn.GELU})
    with pytest.raises(TypeError, match="unknown layer GELU; known: Linear, BatchRenorm, Tanh"):
        learned_policy(mixed)
    assert isinstance(mixed, CrossQ)
    with pytest.raises(TypeError, match="explores by use_sde"):
        learned_policy(small_agent("sac", env, use_sde=True))
    deep = small_agent("recurrent-ppo", env, policy_kwargs={"n_lstm_layers": 2})
    with pytest.raises(TypeError, match="LSTM of one layer"):
        learned_policy(deep)
