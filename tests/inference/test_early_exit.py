import numpy as np
import pytest
import torch
from torch import nn

from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.inference import NEVER, evaluate_policy
from gfnet_env.policies import CenterPolicy, LearnedPolicy, OraclePolicy, RandomPolicy


class CountingPolicy(nn.Module):
    """A user's own recurrent policy: its state tells every image how often it was looked at."""

    def forward(self, observation, state):
        looks = torch.zeros_like(observation["memory"][:, 0]) if state is None else state
        location = (looks / 4 - observation["memory"][:, 0]).clamp(-1, 1)
        return torch.stack([location, -location], dim=1), looks + 1


def learned(network):
    torch.manual_seed(1)
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (16,))
    nn.init.normal_(policy.actor[-1].weight, std=0.5)
    return policy


POLICIES = {
    "random": lambda network: RandomPolicy(),
    "center": lambda network: CenterPolicy(),
    "learned": learned,
    "own": lambda network: CountingPolicy(),
}


@pytest.fixture(params=POLICIES)
def gfnet(request, network):
    return EarlyExitGFNet(network, POLICIES[request.param](network))


def test_without_exits_it_is_the_environment(gfnet, digits):
    gfnet.set_thresholds([1.01] * 4)
    prediction = gfnet(digits[:])
    env = GlanceFocusVectorEnv(40, network=gfnet.network, images=digits, autoreset_mode="Disabled")
    observations, infos = env.reset(options={"indices": range(40)})
    state = None
    for number in range(3):
        tensors = {key: torch.from_numpy(value) for key, value in observations.items()}
        with torch.no_grad():
            locations, state = gfnet.policy(tensors, state)
        assert torch.equal(locations, prediction.locations[:, number])
        observations, _, _, _, infos = env.step(locations.numpy())
    assert prediction.classes.tolist() == infos["prediction"].tolist()
    np.testing.assert_allclose(prediction.confidence, infos["confidence"], atol=1e-6)
    assert prediction.exit_step.tolist() == [3] * 40


def test_thresholds_of_zero_exit_at_the_glance(gfnet, digits):
    gfnet.set_thresholds([0] * 4)
    prediction = gfnet(digits[:])
    with torch.no_grad():
        glance = gfnet.network.glance(digits[:])
    assert prediction.exit_step.tolist() == [0] * 40
    assert prediction.locations.isnan().all()
    assert torch.equal(prediction.classes, glance.classes)
    assert (prediction.multiply_adds == gfnet.multiply_adds[0]).all()


def test_images_that_are_sure_leave_the_batch(gfnet, digits):
    seen = []
    gfnet.network.local_encoder.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    gfnet.set_thresholds([1.01] * 4)
    everything = gfnet(digits[:])
    record = evaluate_policy(gfnet.network, CenterPolicy(), digits)
    seen.clear()
    threshold = float(np.median(record.confidence[:, 0]))
    gfnet.set_thresholds([threshold, threshold, NEVER, 0.3])
    prediction = gfnet(digits[:])
    assert sum(seen) == prediction.exit_step.sum()
    assert len(prediction.exit_step.unique()) > 1
    assert seen == sorted(seen, reverse=True)
    # Those that stayed looked where they would have looked anyway.
    taken = ~prediction.locations.isnan()
    torch.testing.assert_close(
        prediction.locations[taken], everything.locations[taken], atol=1e-5, rtol=0
    )
    assert taken.all(dim=2).sum(dim=1).tolist() == prediction.exit_step.tolist()
    costs = torch.tensor(gfnet.multiply_adds)
    assert torch.equal(prediction.multiply_adds, costs[prediction.exit_step])


def test_evaluation_without_exits_agrees(network, digits):
    policy = learned(network)
    record = evaluate_policy(network, policy, digits, batch_size=7)
    gfnet = EarlyExitGFNet(network, policy)
    prediction = gfnet(digits[:])
    np.testing.assert_allclose(record.confidence[:, -1], prediction.confidence, atol=1e-6)
    np.testing.assert_allclose(record.locations, prediction.locations, atol=1e-5)
    assert record.correct[:, -1].tolist() == (prediction.classes == digits.labels).tolist()


@pytest.mark.parametrize("name", ["random", "center", "learned"])
def test_saved_and_loaded_networks_agree(network, digits, tmp_path, name):
    gfnet = EarlyExitGFNet(network, POLICIES[name](network), [0.9, 0.8, 0.7, 0])
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    assert loaded.thresholds == gfnet.thresholds
    one, other = gfnet(digits[:]), loaded(digits[:])
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.exit_step, other.exit_step)
    assert torch.equal(one.confidence, other.confidence)


def test_an_empty_batch_is_no_special_case(gfnet, digits):
    assert len(gfnet(digits[[]]).classes) == 0


def test_a_policy_of_ones_own_is_not_lost_silently(network, tmp_path):
    for policy in (CountingPolicy(), OraclePolicy()):
        with pytest.raises(ValueError, match=f"{type(policy).__name__} cannot be saved"):
            EarlyExitGFNet(network, policy).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5] * 3, "4 thresholds are needed, one per step, not 3"),
        ([0.5, 0.5, float("nan"), 0], "finite"),
        ([0.5, -0.1, 0.5, 0], "at least 0"),
        ([0.5, float("inf"), 0.5, 0], "finite"),
    ],
)
def test_wrong_thresholds_are_refused_and_change_nothing(network, thresholds, message):
    gfnet = EarlyExitGFNet(network, CenterPolicy(), [0.1, 0.2, 0.3, 0])
    with pytest.raises(ValueError, match=message):
        gfnet.set_thresholds(thresholds)
    assert gfnet.thresholds == (0.1, 0.2, 0.3, 0.0)


def test_a_policy_that_answers_nonsense_is_caught(network, digits):
    def lost(observation, state):
        return torch.full((len(observation["step"]), 2), torch.nan), state

    with pytest.raises(ValueError, match="NaN"):
        EarlyExitGFNet(network, lost)(digits[:4])


def test_a_policy_can_be_swapped(network, digits):
    gfnet = EarlyExitGFNet(network, learned(network))
    costs = [gfnet.multiply_adds]
    for policy in (CenterPolicy(), CountingPolicy(), learned(network).train()):
        gfnet.policy = policy
        assert gfnet.policy is policy
        costs.append(gfnet.multiply_adds)
        expected = EarlyExitGFNet(network, policy)(digits[:5]).locations
        assert torch.equal(gfnet(digits[:5]).locations, expected)
    assert costs[1] == costs[2] < costs[0] == costs[3]
    assert not gfnet.policy.training


def test_a_policy_for_another_network_is_refused(network, tiny_network, tmp_path):
    EarlyExitGFNet(network, learned(network)).save(tmp_path / "one")
    EarlyExitGFNet(tiny_network, learned(tiny_network)).save(tmp_path / "other")
    for name in ("policy.json", "policy.safetensors"):
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ValueError, match="learn a policy for this network"):
        EarlyExitGFNet.load(tmp_path / "one")
    (tmp_path / "other" / "gfnet.json").write_text("{}")
    with pytest.raises(ValueError, match="has no thresholds"):
        EarlyExitGFNet.load(tmp_path / "other")


def test_a_folder_without_a_policy_is_named(network, tmp_path):
    network.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no gfnet\.json"):
        EarlyExitGFNet.load(tmp_path)
    assert isinstance(GlanceFocusNetwork.load(tmp_path), GlanceFocusNetwork)


def test_another_network_asks_for_another_assembly(network):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    with pytest.raises(AttributeError, match="make a new EarlyExitGFNet"):
        gfnet.network = network
