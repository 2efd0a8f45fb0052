import copy
import json
import os

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork, Look, files, rows
from gfnet_env.benchmarks.statistics import expected_calibration_error
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.exits.thresholds import NEVER
from gfnet_env.features import LiveFeatures
from gfnet_env.images import DatasetImages, PictureImages
from gfnet_env.inference import calibrate, fit_temperatures, learn_certainty, measure_latency
from gfnet_env.policies import (
    CenterPolicy,
    Context,
    LearnedPolicy,
    OraclePolicy,
    RandomPolicy,
    shown_to,
    start,
)
from gfnet_env.rollout import glance
from gfnet_env.zoo import pretrained

STEPS = 4


class CountingPolicy(nn.Module):
    """A user's own recurrent policy: its memory tells every image how often it was looked at."""

    def forward(self, observation, memory):
        looks = torch.zeros_like(observation["memory"][:, 0]) if memory is None else memory
        location = (looks / 4 - observation["memory"][:, 0]).clamp(-1, 1)
        return torch.stack([location, -location], dim=1), looks + 1


def learned(network, stop=0.0, **options):
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), **options)
    nn.init.normal_(policy.actor[-1].weight, std=0.5)
    # The last number of a Box may be the stop, which is taken about every other time then.
    policy.actor[-1].bias.data[-1] = stop
    return policy


POLICIES = {
    "random": lambda network: RandomPolicy(),
    "center": lambda network: CenterPolicy(),
    "learned": learned,
    "own": lambda network: CountingPolicy(),
    "zoom+stop": lambda network: learned(network, 0.4, actions="zoom:max_scale=3+stop"),
    "grid+stop": lambda network: learned(network, actions="grid:cells=2+stop", revisit=False),
}


@pytest.fixture(params=POLICIES)
def gfnet(request, network):
    return EarlyExitGFNet(network, POLICIES[request.param](network))


@pytest.fixture
def mixed():
    """Six pictures of noise, each of its own size."""
    rng = np.random.default_rng(0)
    sizes = [(40, 90), (90, 40), (32, 32), (200, 33), (64, 64), (50, 120)]
    return DatasetImages([(rng.integers(0, 256, (3, *size), np.uint8), 0) for size in sizes])


def sent(decided):
    """What an environment takes for what a policy decided."""
    return (decided.location if isinstance(decided, Look) else decided).numpy()


@pytest.mark.parametrize("name", ["random", "center", "learned", "own"])
def test_without_exits_it_is_the_environment(network, digits, name):
    policy = POLICIES[name](network)
    prediction = EarlyExitGFNet(network, policy)(digits[:])
    shown = shown_to(policy, network)
    env = GlanceFocusVectorEnv(
        40, model=network, images=digits, observation=shown, autoreset_mode="Disabled"
    )
    observations, infos = env.reset(options={"indices": range(40)})
    memory = start(policy, Context(env.features, np.arange(40)))
    for number in range(3):
        tensors = {key: torch.from_numpy(value) for key, value in observations.items()}
        with torch.no_grad():
            decided, memory = policy(tensors, memory)
        locations = sent(decided)
        assert np.array_equal(locations, prediction.locations[:, number])
        observations, _, _, _, infos = env.step(locations)
    assert prediction.classes.tolist() == infos["prediction"].tolist()
    np.testing.assert_allclose(prediction.confidence, infos["confidence"], atol=1e-6)
    assert prediction.exit_step.tolist() == [3] * 40


@pytest.mark.parametrize("name", ["zoom+stop", "grid+stop"])
def test_stops_and_scales_are_those_of_the_environment(network, digits, name):
    policy = POLICIES[name](network)
    prediction = EarlyExitGFNet(network, policy)(digits)
    env = GlanceFocusVectorEnv(
        model=network, images=digits, actions=policy.actions, observation=policy.observation
    )
    for index in range(12):
        observations, infos = env.reset(options={"indices": [index]})
        memory, taken, ended = None, 0, np.zeros(1, dtype=bool)
        while not ended:
            tensors = {key: torch.from_numpy(value) for key, value in observations.items()}
            with torch.no_grad():
                action, memory = policy(tensors, memory)
            observations, _, ended, _, infos = env.step(action.numpy())
            looks = policy.actions.looks(action, glance(env.features, np.array([index])))
            if not looks.stop:
                expected = prediction.locations[index, taken]
                np.testing.assert_allclose(looks.location[0], expected, atol=1e-5)
                assert float(looks.scale) == pytest.approx(prediction.scales[index, taken].item())
                taken += 1
        assert taken == prediction.exit_step[index]
        assert infos["prediction"][0] == prediction.classes[index]
    assert len(prediction.exit_step.unique()) > 1


def test_a_stop_costs_its_decision(network, digits):
    """Stops at the images of odd index, after one look."""

    class Stopping(CountingPolicy):
        def start(self, context):
            return torch.from_numpy(context.indices), torch.zeros(len(context.indices))

        def forward(self, observation, memory):
            numbers, looks = memory
            location = torch.zeros(len(numbers), 2)
            # A decision that costs something.
            _ = observation["memory"] @ torch.zeros(observation["memory"].shape[1], 1)
            stop = (numbers % 2 == 1) & (looks == 1)
            return Look.at(location, stop=stop), (numbers, looks + 1)

    gfnet = EarlyExitGFNet(network, Stopping())
    prediction = gfnet(digits)
    assert prediction.exit_step.tolist() == [3, 1] * 20
    assert gfnet.stop_multiply_adds == network.memory_size
    assert (prediction.multiply_adds[::2] == gfnet.multiply_adds[3]).all()
    stopped = gfnet.multiply_adds[1] + gfnet.stop_multiply_adds
    assert (prediction.multiply_adds[1::2] == stopped).all()
    # Who is sure enough exits before the policy is asked.
    gfnet.set_thresholds([NEVER, 0, 0, 0])
    assert (gfnet(digits).multiply_adds == gfnet.multiply_adds[1]).all()
    *_, last = gfnet.anytime(digits)
    assert torch.equal(last.multiply_adds, prediction.multiply_adds)


def test_thresholds_of_zero_exit_at_the_glance(gfnet, digits):
    gfnet.set_thresholds([0] * 4)
    prediction = gfnet(digits[:])
    with torch.no_grad():
        known = glance(LiveFeatures(gfnet.model, digits), np.arange(40))
    assert prediction.exit_step.tolist() == [0] * 40
    assert prediction.locations.isnan().all()
    assert prediction.scales.isnan().all()
    assert torch.equal(prediction.classes, known.classes)
    assert (prediction.multiply_adds == gfnet.multiply_adds[0]).all()


def test_images_that_are_sure_leave_the_batch(gfnet, digits):
    seen = []
    gfnet.model.local_encoder.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    everything = gfnet(digits[:])
    record = evaluate_policy(gfnet.model, CenterPolicy(), digits)
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
    costs = torch.tensor(gfnet.multiply_adds)[prediction.exit_step]
    stops = "stop" in getattr(getattr(gfnet.policy, "actions", None), "spec", "")
    added = {0, gfnet.stop_multiply_adds} if stops else {0}
    assert set((prediction.multiply_adds - costs).tolist()) <= added


def test_evaluation_without_exits_agrees(gfnet, digits):
    record = evaluate_policy(gfnet.model, gfnet.policy, digits, batch_size=7)
    prediction = gfnet(digits[:])
    np.testing.assert_allclose(record.confidence[:, -1], prediction.confidence, atol=1e-6)
    np.testing.assert_allclose(record.locations, prediction.locations, atol=1e-5)
    np.testing.assert_allclose(record.scales, prediction.scales, atol=1e-4)
    assert record.looks.tolist() == prediction.exit_step.tolist()
    assert record.correct[:, -1].tolist() == (prediction.classes == digits.labels).tolist()


def test_a_set_is_classified_like_its_tensor(gfnet, digits):
    gfnet.set_thresholds([0.9, 0.8, 0.7, 0])
    whole, chosen = gfnet(digits[:]), np.array([7, 3, 30])
    for other in (gfnet(digits), gfnet.classify(digits)):
        assert torch.equal(whole.logits, other.logits)
    for some in (gfnet(digits, chosen), gfnet.classify(digits, chosen, batch_size=2)):
        assert some.exit_step.tolist() == whole.exit_step[chosen].tolist()
        torch.testing.assert_close(some.logits, whole.logits[chosen], atol=1e-5, rtol=1e-5)
    assert len(rows.select(whole, torch.tensor([1, 2]))) == 2


@pytest.mark.parametrize("name", ["random", "learned", "zoom+stop"])
def test_pictures_of_any_size_share_a_batch(network, mixed, name):
    gfnet = EarlyExitGFNet(network, POLICIES[name](network))
    if name == "random":
        # What is drawn depends on the index, which differs from picture to picture.
        gfnet.policy = CenterPolicy()
    together = gfnet(mixed)
    for index in range(len(mixed)):
        alone = gfnet(mixed.picture(index)[None])
        assert torch.equal(alone.exit_step, together.exit_step[[index]])
        torch.testing.assert_close(alone.logits[0], together.logits[index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "own"])
def test_saved_and_loaded_networks_agree(network, digits, tmp_path, name):
    gfnet = EarlyExitGFNet(network, POLICIES[name](network), [0.9, 0.8, 0.7, 0])
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    assert loaded.thresholds == gfnet.thresholds
    one, other = gfnet(digits[:]), loaded(digits[:])
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.exit_step, other.exit_step)
    assert torch.equal(one.multiply_adds, other.multiply_adds)


def test_a_learned_stop_is_saved_and_costs(network, digits, tmp_path):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    plain = gfnet.multiply_adds
    # It learns, whatever a caller has switched off.
    with torch.inference_mode():
        learn_certainty(gfnet, digits)
    assert gfnet.budgets is None
    assert 0 < gfnet.multiply_adds[0] - plain[0] < 0.001 * plain[0]
    table = calibrate(gfnet, digits, "uniform")
    gfnet.set_budget(multiply_adds=sum(gfnet.multiply_adds) / 4)
    assert len(set(gfnet.thresholds[:-1])) == 1
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    assert loaded.budgets == table
    one, other = gfnet.classify(digits), loaded.classify(digits)
    assert torch.equal(one.exit_step, other.exit_step)
    assert torch.equal(one.certainty, other.certainty)
    assert len(one.exit_step.unique()) > 1


def test_temperatures_make_confidence_mean_accuracy(network, digits, tmp_path):
    gfnet = EarlyExitGFNet(network, CenterPolicy(), [2, 2, 2, 0])
    classes = gfnet.classify(digits).classes
    network.set_temperatures([0.05, 0.1, 0.1, 0.1])

    def error():
        record = evaluate_policy(network, gfnet.policy, digits)
        return expected_calibration_error(record.confidence.ravel(), record.correct.ravel())

    before = error()
    with torch.inference_mode():
        fit_temperatures(gfnet, digits)
    assert error() < 0.7 * before
    assert len(set(network.config.temperatures)) == 4
    found = gfnet.classify(digits)
    assert torch.equal(found.classes, classes)
    gfnet.save(tmp_path)
    assert torch.equal(EarlyExitGFNet.load(tmp_path).classify(digits).logits, found.logits)
    # More looks than were fitted have the last temperature.
    network.set_temperatures([2.0])
    halved = gfnet.classify(digits).logits
    network.set_temperatures(())
    torch.testing.assert_close(2 * halved, gfnet.classify(digits).logits)
    with pytest.raises(ValueError, match="temperatures must be positive, not 0.0"):
        network.set_temperatures([1.0, 0.0])


def test_a_certainty_of_ones_own_is_used_but_not_saved(network, digits, tmp_path):
    gfnet = EarlyExitGFNet(network, CenterPolicy(), [0.5] * 4, lambda state: state.number / 4)
    assert gfnet(digits[:4]).exit_step.tolist() == [2] * 4
    with pytest.raises(ValueError, match="only ExpectedGain and confidence can"):
        gfnet.save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("certainty", "message"),
    [
        (lambda state: None, r"the certainty <lambda> must be a tensor \(4,\), one per image"),
        (lambda state: state.location, r"not \(4, 2\)"),
        # One for all would be taken for each.
        (lambda state: state.confidence[:1], r"not \(1,\)"),
        (lambda state: state.confidence.tolist(), "not list"),
        (lambda state: -state.confidence, r"must be in \[0, 1\]; one is -0"),
        (lambda state: state.confidence + torch.nan, r"must be in \[0, 1\]; one is nan"),
    ],
)
def test_a_certainty_is_one_share_per_image(network, digits, certainty, message):
    with pytest.raises(ValueError, match=message):
        EarlyExitGFNet(network, CenterPolicy(), certainty=certainty)(digits[:4])


def test_a_certainty_may_have_any_type(network, digits):
    for certainty in (
        lambda state: state.confidence.double(),
        lambda state: state.confidence > 0,
    ):
        found = EarlyExitGFNet(network, CenterPolicy(), certainty=certainty)(digits[:4])
        assert found.certainty.dtype == torch.float32


@pytest.mark.parametrize("certainty", [None, 3, "gain"])
def test_what_is_no_certainty_is_refused_at_once(gfnet, certainty):
    with pytest.raises(TypeError, match="a certainty must be a function of a state"):
        gfnet.certainty = certainty


def test_an_empty_batch_is_no_special_case(gfnet, digits):
    assert len(gfnet(digits[[]]).classes) == 0
    assert len(gfnet.classify(digits, [])) == 0


def test_a_prediction_changes_nothing_that_was_learned(digits, tmp_path):
    torch.manual_seed(0)
    config = {"encoder": "resnet10t", "patch_size": 64, "num_classes": 10, "focus_steps": 1}
    gfnet = EarlyExitGFNet(GlanceFocusNetwork.build(**config), CenterPolicy())
    before = copy.deepcopy(gfnet.state_dict())
    gfnet.train()
    assert not any(module.training for module in gfnet.modules())
    first = gfnet(digits[:2])
    assert torch.equal(first.logits, gfnet(digits[:2]).logits)
    for name, tensor in gfnet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_policy_of_ones_own_is_not_lost_silently(network, tmp_path):
    for policy in (CountingPolicy(), OraclePolicy()):
        with pytest.raises(ValueError, match=f"{type(policy).__name__} cannot be saved"):
            EarlyExitGFNet(network, policy).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_is_not_loaded_as_another(network, tmp_path):
    class Own(GlanceFocusNetwork):
        pass

    gfnet = EarlyExitGFNet(Own(network.config), CenterPolicy())
    with pytest.raises(ValueError, match="Own cannot be saved: a folder is loaded as a Glance"):
        gfnet.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_place_in_json_is_refused_before_anything_is_written(network, tmp_path):
    policy = CenterPolicy()
    policy.config = {"seed": object()}
    with pytest.raises(ValueError, match="cannot be saved"):
        EarlyExitGFNet(network, policy).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def saves(network, folder):
    """Two saves of one network with other policies and thresholds."""
    for name, seed, thresholds in (("one", 1, [0.9] * 4), ("other", 2, [0.5] * 4)):
        torch.manual_seed(seed)
        policy = LearnedPolicy.for_model(network, (8,))
        EarlyExitGFNet(network, policy, thresholds).save(folder / name)


@pytest.mark.parametrize(
    "mixed", [["gfnet.json"], ["policy.json", "policy.safetensors"], ["policy.safetensors"]]
)
def test_a_mix_of_two_saves_is_refused(network, tmp_path, mixed):
    saves(network, tmp_path)
    for name in mixed:
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(
        ValueError, match=r"policy.* is damaged or belongs to another save than the gfnet"
    ):
        EarlyExitGFNet.load(tmp_path / "one")


@pytest.mark.parametrize("name", ["network.json", "network.safetensors", "policy.json"])
def test_a_damaged_file_is_named(network, tmp_path, name):
    saves(network, tmp_path)
    path = tmp_path / "one" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged or belongs to another save"):
        EarlyExitGFNet.load(tmp_path / "one")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        EarlyExitGFNet.load(tmp_path / "one")


def test_changed_thresholds_are_noticed(network, tmp_path):
    saves(network, tmp_path)
    path = tmp_path / "one" / "gfnet.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"thresholds": [0.1] * 4}))
    with pytest.raises(ValueError, match=r"gfnet\.json is damaged"):
        EarlyExitGFNet.load(tmp_path / "one")
    # Folders of 0.1 have no digests.
    saved = {"thresholds": [0.1] * 4}
    path.write_text(json.dumps(saved))
    assert EarlyExitGFNet.load(tmp_path / "one").thresholds == (0.1,) * 4
    for nothing in ({}, "", None, 0):
        path.write_text(json.dumps(saved | {"budgets": nothing}))
        with pytest.raises(ValueError, match=r"budgets in .*gfnet\.json are damaged: .* not "):
            EarlyExitGFNet.load(tmp_path / "one")
    for digests in ([], None, {"/dev/zero": ""}, {"../other/policy.json": ""}):
        path.write_text(json.dumps(saved | {"files_sha256": digests}))
        with pytest.raises(ValueError, match=r"gfnet\.json is damaged"):
            EarlyExitGFNet.load(tmp_path / "one")


class Killed(BaseException):
    pass


def test_a_kill_at_any_write_leaves_the_old_or_the_new(network, tmp_path, monkeypatch):
    saves(network, tmp_path)
    new = EarlyExitGFNet.load(tmp_path / "other")
    folder = tmp_path / "one"
    steps, left = 0, []
    calls = {name: getattr(os, name) for name in ("replace", "rename", "fsync")}

    def counted(name):
        def call(*arguments, **options):
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise Killed
            return calls[name](*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in calls:
            patched.setattr(files.os, name, counted(name))
        for allowed in range(100):
            steps = allowed
            try:
                new.save(folder)
            except Killed:
                left.append(EarlyExitGFNet.load(folder).thresholds[0])
                continue
            break
    assert EarlyExitGFNet.load(folder).thresholds == new.thresholds
    assert left == sorted(left, reverse=True)
    assert set(left) == {0.9, 0.5}


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5] * 3, "4 thresholds are needed, one per step, not 3"),
        ([0.5, 0.5, float("nan"), 0], "finite"),
        ([0.5, -0.1, 0.5, 0], "at least 0"),
        ([0.5, float("inf"), 0.5, 0], "finite"),
        ([0.5, "0.5", 0.5, 0], "thresholds must be numbers"),
        ("0.50", "thresholds must be numbers"),
        (0.5, "thresholds must be finite and at least 0, not 0.5"),
        ([[0.5]] * 4, "thresholds must be finite"),
        (object(), "thresholds must be numbers"),
    ],
)
def test_wrong_thresholds_are_refused_and_change_nothing(network, thresholds, message):
    gfnet = EarlyExitGFNet(network, CenterPolicy(), [0.1, 0.2, 0.3, 0])
    with pytest.raises(ValueError, match=message):
        gfnet.set_thresholds(thresholds)
    assert gfnet.thresholds == (0.1, 0.2, 0.3, 0.0)


def test_a_policy_that_answers_nonsense_is_caught(network, digits):
    def lost(observation, memory):
        return torch.full((len(observation["step"]), 2), torch.nan), memory

    with pytest.raises(ValueError, match="NaN"):
        EarlyExitGFNet(network, lost)(digits[:4])


def test_a_policy_looks_no_further_than_the_edges(network, digits):
    def far(observation, memory):
        return torch.tensor([[1.5, -3.0]]).expand(len(observation["step"]), 2), memory

    def flush(observation, memory):
        return torch.tensor([[1.0, -1.0]]).expand(len(observation["step"]), 2), memory

    found = [EarlyExitGFNet(network, each)(digits[:4]) for each in (far, flush)]
    assert torch.equal(found[0].logits, found[1].logits)
    assert torch.equal(found[0].locations, found[1].locations)
    envs = gym.make_vec("gfnet_env/GlanceFocus-v0", num_envs=4, images=digits)
    steps = []
    for action in ([1.5, -3.0], [1.0, -1.0]):
        envs.reset(seed=0)
        steps.append(envs.step(np.tile(np.float32(action), (4, 1))))
    assert np.array_equal(steps[0][1], steps[1][1])


@pytest.mark.parametrize("answer", [None, torch.zeros(4, 2), (torch.zeros(4, 2),)])
def test_a_policy_must_also_say_what_it_remembers(network, digits, answer):
    def forgetful(observation, memory):
        return answer

    with pytest.raises(ValueError, match="the policy forgetful must return two things, where to"):
        EarlyExitGFNet(network, forgetful)(digits[:4])


@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        (torch.zeros(1, 2), ValueError, r"the policy mixed remembers .* each of 4 pictures"),
        ({"past": [torch.tensor(1)]}, ValueError, "wrap what all pictures share"),
        (np.zeros(4), TypeError, "what a policy remembers, may hold tensors.* not ndarray"),
        (3, TypeError, "not int"),
    ],
)
def test_what_a_policy_remembers_has_a_row_for_each_picture(
    network, digits, memory, error, message
):
    def mixed(observation, _memory):
        return torch.zeros_like(observation["location"]), memory

    with pytest.raises(error, match=message):
        EarlyExitGFNet(network, mixed)(digits[:4])


@pytest.mark.parametrize("name", ["actions", "observation"])
def test_names_are_no_parts_of_a_policy(network, digits, name):
    policy = CenterPolicy()
    setattr(policy, name, "continuous")
    with pytest.raises(TypeError, match=f"the {name} of the policy CenterPolicy must be"):
        EarlyExitGFNet(network, policy)(digits[:4])


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
    # As 0.1 left folders, which nothing tells of the mix.
    (tmp_path / "one" / "gfnet.json").write_text(json.dumps({"thresholds": [0] * 4}))
    with pytest.raises(ValueError, match="learn a policy for this model"):
        EarlyExitGFNet.load(tmp_path / "one")
    (tmp_path / "other" / "gfnet.json").write_text("{}")
    with pytest.raises(ValueError, match="has no thresholds"):
        EarlyExitGFNet.load(tmp_path / "other")


def test_a_policy_for_another_network_is_not_assembled(network, tiny_network):
    with pytest.raises(ValueError, match="learn a policy for this model"):
        EarlyExitGFNet(network, learned(tiny_network))
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    with pytest.raises(ValueError, match="learn a policy for this model"):
        gfnet.policy = learned(tiny_network)
    assert isinstance(gfnet.policy, CenterPolicy)


def test_a_folder_without_a_policy_is_named(network, tmp_path):
    network.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no gfnet\.json"):
        EarlyExitGFNet.load(tmp_path)
    # A run of three stages.
    for stage in ("stage1", "stage3"):
        EarlyExitGFNet(network, CenterPolicy()).save(tmp_path / stage)
    with pytest.raises(FileNotFoundError, match=r"but in .*stage3; give that folder"):
        EarlyExitGFNet.load(tmp_path)
    assert isinstance(GlanceFocusNetwork.load(tmp_path), GlanceFocusNetwork)


class Photographs:
    """A map-style data set without an image set around it."""

    classes, targets = tuple("abcde"), [0, 1, 2]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("RGB", (24, 30), (80 * index,) * 3), index


def test_data_sets_are_images_too(tiny_network):
    class Torch(Photographs, Dataset):
        pass

    gfnet, images = EarlyExitGFNet(tiny_network, CenterPolicy()), DatasetImages(Photographs())
    assert gfnet(Torch()).logits.equal(gfnet(images).logits)
    record = evaluate_policy(tiny_network, CenterPolicy(), Photographs())
    assert (record.correct == evaluate_policy(tiny_network, CenterPolicy(), images).correct).all()
    assert calibrate(gfnet, Photographs()).points == calibrate(gfnet, images).points
    assert len(GlanceFocusEnv(model=tiny_network, images=Photographs()).images) == 3
    for wrong in (np.zeros((2, 3, 24, 24), np.uint8), "folder:x"):
        with pytest.raises(ValueError, match="an image set is needed, with labels"):
            calibrate(gfnet, wrong)


@pytest.mark.parametrize("policy", [None, "center", CenterPolicy])
def test_what_is_no_policy_is_refused_at_once(policy, tiny_network):
    with pytest.raises(TypeError, match="a policy must be an object to call"):
        EarlyExitGFNet(tiny_network, policy)
    with pytest.raises(TypeError, match="a model is needed, not 'network'"):
        EarlyExitGFNet("network", CenterPolicy())


def test_another_model_asks_for_another_assembly(network):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    with pytest.raises(AttributeError, match="make a new EarlyExitGFNet"):
        gfnet.model = network


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_pixels_that_are_no_numbers_are_named(network, digits, value):
    floats = digits[:8].float()
    floats[[2, 5], 1, 60, 70] = value
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    with pytest.raises(ValueError, match=r"2 of 8 images hold NaN or infinity: number 2, 5$"):
        gfnet(floats, normalised=True)
    with pytest.raises(ValueError, match="images hold NaN or infinity"):
        gfnet.anytime(floats, normalised=True)


def test_pixels_of_a_set_of_ones_own_that_are_no_numbers_are_named(tiny_network):
    class Own(PictureImages):
        labels, normalised, fixed_size = torch.zeros(4, dtype=torch.int64), True, (24, 24)

        def _read(self, indices):
            return (
                torch.where(torch.from_numpy(indices) % 2 == 1, torch.nan, 0.0)
                .view(-1, 1, 1, 1)
                .expand(-1, 3, 24, 24)
            )

    images = Own()
    gfnet = EarlyExitGFNet(tiny_network, CenterPolicy())
    assert gfnet(images, [0, 2]).confidence.isfinite().all()
    with pytest.raises(ValueError, match=r"2 of 4 images hold NaN or infinity: number 1, 3$"):
        gfnet(images)
    env = GlanceFocusEnv(model=tiny_network, images=images)
    env.reset(options={"indices": [0]})
    with pytest.raises(ValueError, match="number 3$"):
        env.reset(options={"indices": [3]})


def test_arrays_are_images_too(network, digits):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    found = gfnet(digits[:4]).logits
    assert torch.equal(gfnet(digits[:4].numpy()).logits, found)
    assert torch.equal(gfnet.classify(digits[:4].numpy(), batch_size=4).logits, found)
    assert len(gfnet.classify(digits[:4], batch_size=3).logits) == 4
    for classify in (gfnet, gfnet.classify, lambda images: measure_latency(gfnet, images)):
        with pytest.raises(ValueError, match="must be an array or a tensor.*, not a NoneType"):
            classify(None)
        with pytest.raises(ValueError, match=r"must be a dense tensor in memory, not .* on meta"):
            classify(digits[:4].to("meta"))
    with pytest.raises(ValueError, match=r"must be an array or a tensor.*not a list; DatasetIm"):
        gfnet([Image.new("RGB", (64, 64))])
    with pytest.raises(ValueError, match=r"not \(4, 128, 128, 3\); permute\(0, 3, 1, 2\)"):
        gfnet(digits[:4].permute(0, 2, 3, 1))


def test_normalised_floats_are_taken_as_they_are(network, digits):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    encoder = network.global_encoder
    floats = (digits[:4] - encoder.mean) / encoder.std
    expected = gfnet(digits[:4]).logits
    found = gfnet(floats, normalised=True).logits
    torch.testing.assert_close(found, expected, atol=0.2, rtol=0.05)
    same = gfnet(ArrayImages(floats, normalised=True)).logits
    assert torch.equal(found, same)


@pytest.mark.parametrize("wrong", ["1", (1,), np.ones(2), torch.ones(2), 10**400])
def test_budgets_and_deadlines_must_be_numbers(network, digits, wrong):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    for name in ("multiply_adds", "milliseconds"):
        with pytest.raises(ValueError, match=name):
            gfnet.set_budget(**{name: wrong})
    with pytest.raises(ValueError, match="deadline"):
        gfnet.anytime(digits, [0], deadline=wrong)


def test_reversed_arrays_are_read_as_they_look(network, digits):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    pixels = digits[:3].numpy()
    found = gfnet(pixels[::-1])
    assert torch.equal(found.logits, gfnet(pixels[::-1].copy()).logits)
    assert torch.equal(gfnet(pixels, slice(2, 3)).logits, gfnet(pixels, [2]).logits)


@pytest.mark.parametrize("kind", [str, object, complex])
def test_arrays_of_no_numbers_are_refused(network, kind):
    with pytest.raises(ValueError, match="images must be numbers"):
        EarlyExitGFNet(network, CenterPolicy())(np.zeros((1, 3, 64, 64)).astype(kind))


def test_results_are_float32_whatever_torch_takes_by_default(tiny_network, tiny_images):
    gfnet = EarlyExitGFNet(tiny_network, CenterPolicy())
    wanted = gfnet(tiny_images)
    torch.set_default_dtype(torch.float64)
    try:
        found = gfnet(tiny_images)
        points = calibrate(gfnet, tiny_images).points
        env = GlanceFocusVectorEnv(2, model=tiny_network, images=tiny_images)
        observations, _ = env.reset(seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.logits, wanted.logits)
    assert found.locations.dtype == found.certainty.dtype == torch.float32
    assert points == calibrate(gfnet, tiny_images).points
    assert {value.dtype for value in observations.values()} == {np.dtype("float32")}


def test_paths_are_brought_to_the_size_of_training(digits, tmp_path):
    gfnet = pretrained("cluttered-digits")
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        pixels = digits[[number]][0].permute(1, 2, 0).numpy()
        Image.fromarray(pixels.squeeze()).save(paths[-1])
    expected = gfnet(digits, range(3))
    for given in (paths, [str(path) for path in paths]):
        found = gfnet(given)
        assert torch.equal(found.logits, expected.logits)
    Image.new("RGB", (200, 150)).save(tmp_path / "larger.png")
    assert len(gfnet([tmp_path / "larger.png", paths[0]]).classes) == 2
    with pytest.raises(FileNotFoundError, match="there is no picture .*missing"):
        gfnet([tmp_path / "missing.png"])
