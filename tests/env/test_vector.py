import copy
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import gfnet_env
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.features import LiveFeatures
from gfnet_env.images import Subset
from gfnet_env.looks import Look
from gfnet_env.models.trained_on import TrainingData
from gfnet_env.rewards import confidence_gain
from gfnet_env.rollout import glance, look

INFOS = ("index", "label", "prediction", "confidence", "label_confidence", "correct")


def vector(count, digits, **arguments):
    return GlanceFocusVectorEnv(count, images=digits, **arguments)


def random_actions(rng, count):
    return rng.uniform(-1, 1, (count, 2)).astype(np.float32)


def test_make_vec_builds_it_with_no_arguments():
    env = gym.make_vec("gfnet_env/GlanceFocus-v0", num_envs=3)
    assert isinstance(env.unwrapped, GlanceFocusVectorEnv)
    observations, infos = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    assert set(observations) >= {"features", "memory", "location", "step"}
    assert all(infos[name].shape == (3,) for name in INFOS)
    observations, rewards, terminations, truncations, infos = env.step(env.action_space.sample())
    assert env.observation_space.contains(observations)
    assert rewards.shape == terminations.shape == truncations.shape == (3,)
    assert len(env.unwrapped.images) == 20_000
    env.close()


def test_an_episode_is_a_glance_and_the_focus_steps(digits, network):
    env = vector(4, digits, model=network)
    observations, infos = env.reset(options={"indices": [5, 6, 7, 8]})
    assert infos["index"].tolist() == [5, 6, 7, 8]
    assert infos["label"].tolist() == digits.labels[5:9].tolist()
    assert (observations["location"] == 0).all()
    assert (observations["step"] == 0).all()
    features, chosen = LiveFeatures(network, digits), np.arange(5, 9)
    with torch.no_grad():
        state = glance(features, chosen)
    for number in (1, 2, 3):
        actions = random_actions(np.random.default_rng(number), 4)
        observations, rewards, terminations, truncations, infos = env.step(actions)
        before = state
        with torch.no_grad():
            state = look(features, chosen, Look.at(torch.from_numpy(actions)), before)
        labels = digits.labels[5:9]
        gain = state.label_confidence(labels) - before.label_confidence(labels)
        np.testing.assert_allclose(rewards, gain, atol=1e-6)
        np.testing.assert_array_equal(observations["features"], state.feature_map)
        np.testing.assert_array_equal(observations["glance"], state.glance_map.flatten(1))
        np.testing.assert_array_equal(observations["memory"], state.memory)
        np.testing.assert_array_equal(observations["location"], actions)
        np.testing.assert_allclose(observations["step"], number / 3, rtol=1e-6)
        np.testing.assert_allclose(infos["confidence"], state.confidence)
        np.testing.assert_array_equal(infos["logits"], state.logits)
        assert infos["prediction"].tolist() == state.classes.tolist()
        assert infos["correct"].tolist() == (state.classes == labels).tolist()
        assert terminations.tolist() == [number == 3] * 4
        assert not truncations.any()


@pytest.mark.parametrize(
    "actions", ["continuous", "grid:cells=5", "zoom", "continuous+stop", "grid+stop", "zoom+stop"]
)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_vector_is_as_many_single_environments(digits, network, mode, actions):
    arguments = {"images": digits, "model": network, "exits": "confidence:threshold=0.9"}
    arguments["actions"] = actions
    together = GlanceFocusVectorEnv(5, autoreset_mode=mode, **arguments)
    apart = gym.vector.SyncVectorEnv(
        [lambda: GlanceFocusEnv(**arguments) for _ in range(5)], autoreset_mode=mode
    )
    together.action_space.seed(0)
    results = [env.reset(seed=11) for env in (together, apart)]
    compare(results[0], results[1])
    ends = []
    for _ in range(25):
        chosen = together.action_space.sample()
        results = [env.step(chosen) for env in (together, apart)]
        compare(results[0], results[1])
        ends.append(results[0][2])
    # The episodes did end at different times, and some rows were reset while others were not.
    assert any(row.any() and not row.all() for row in ends)


def compare(one, other):
    """Equal trees to 1e-5, whatever order the keys are in."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            if key.startswith("final") or f"_{key}" not in one:
                compare(one[key], other[key])
            else:
                mask = one[f"_{key}"]
                np.testing.assert_array_equal(mask, other[f"_{key}"])
                compare(one[key][mask], other[key][mask])
    elif isinstance(one, tuple | list) or (isinstance(one, np.ndarray) and one.dtype == object):
        assert len(one) == len(other)
        for item, counterpart in zip(one, other, strict=True):
            compare(item, counterpart)
    elif one is None:
        assert other is None
    else:
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_rewards_add_up_to_the_gain_of_the_episode(digits):
    env = vector(6, digits)
    _, infos = env.reset(seed=1)
    first, total = infos["label_confidence"], 0
    for number in range(3):
        _, rewards, _, _, infos = env.step(random_actions(np.random.default_rng(number), 6))
        total = total + rewards
    np.testing.assert_allclose(total, infos["label_confidence"] - first, atol=1e-6)


def test_each_encoder_is_called_at_most_once_a_step(digits, network):
    calls = {"global": 0, "local": 0}

    def count(name):
        def hook(module, inputs, output):
            calls[name] += 1

        return hook

    network.global_encoder.register_forward_hook(count("global"))
    network.local_encoder.register_forward_hook(count("local"))
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = vector(
            5, digits, model=network, exits="confidence:threshold=0.8", autoreset_mode=mode
        )
        env.reset(seed=0)
        for number in range(12):
            calls.update({"global": 0, "local": 0})
            env.step(random_actions(np.random.default_rng(number), 5))
            assert calls["global"] <= 1
            assert calls["local"] <= 1


def test_the_seed_fixes_the_order_of_images(digits):
    def order(seed):
        env = vector(3, digits, autoreset_mode="SameStep")
        indices = [env.reset(seed=seed)[1]["index"]]
        indices += [env.step(np.zeros((3, 2)))[4]["index"] for _ in range(9)]
        return np.stack(indices)

    assert (order(0) == order(0)).all()
    assert (order(0) != order(5)).any()
    # Seeds are counted up over the sub-environments, as gymnasium's own do.
    assert (order(0)[:, 1:] == order(1)[:, :2]).all()


def test_asked_for_images_come_first_and_then_the_order_of_the_seed(digits):
    env = vector(2, digits, autoreset_mode="SameStep")
    _, infos = env.reset(seed=4)
    ordered = infos["index"].tolist()
    _, infos = env.reset(seed=4, options={"indices": [30, 31, 32]})
    assert infos["index"].tolist() == [30, 31]
    for _ in range(3):
        infos = env.step(np.zeros((2, 2)))[4]
    assert infos["index"].tolist() == [32, ordered[1]]


def test_a_whole_epoch_shows_every_image_once(digits):
    env = vector(1, digits, autoreset_mode="SameStep", focus_steps=1)
    seen = [env.reset(seed=0)[1]["index"][0]]
    seen += [env.step(np.zeros((1, 2)))[4]["index"][0] for _ in range(39)]
    assert sorted(seen) == list(range(40))


def test_next_step_ignores_the_action_of_a_reset(digits):
    env = vector(2, digits, focus_steps=1)
    env.reset(seed=0)
    _, _, terminations, _, _ = env.step(np.zeros((2, 2)))
    assert terminations.all()
    observations, rewards, terminations, _, _ = env.step(np.full((2, 2), np.nan))
    assert (observations["step"] == 0).all()
    assert (rewards == 0).all()
    assert not terminations.any()


def test_disabled_autoreset_resets_any_subset_and_nothing_else(digits):
    env = vector(3, digits, focus_steps=1, autoreset_mode="Disabled")
    env.reset(options={"indices": [1, 2, 3]})
    observations, _, terminations, _, _ = env.step(np.full((3, 2), 0.5))
    assert terminations.all()
    with pytest.raises(RuntimeError, match=r"\[0, 1, 2\] have ended; reset them"):
        env.step(np.zeros((3, 2)))
    mask = np.array([False, True, False])
    after, infos = env.reset(options={"reset_mask": mask, "indices": [9]})
    assert infos["index"].tolist() == [1, 9, 3]
    assert infos["_index"].tolist() == mask.tolist()
    np.testing.assert_allclose(after["step"].ravel(), [1 / 3, 0, 1 / 3])
    for key, value in after.items():
        np.testing.assert_array_equal(value[[0, 2]], observations[key][[0, 2]])
    with pytest.raises(RuntimeError, match=r"\[0, 2\] have ended"):
        env.step(np.zeros((3, 2)))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_part_can_be_reset_while_autoreset_is_on(digits, mode):
    env = vector(3, digits, focus_steps=2, autoreset_mode=mode)
    env.reset(seed=0)
    before = env.step(np.zeros((3, 2)))[0]
    after, _ = env.reset(options={"reset_mask": np.array([True, False, False]), "indices": [7]})
    np.testing.assert_allclose(after["step"].ravel(), [0, 1 / 3, 1 / 3])
    np.testing.assert_array_equal(after["memory"][1:], before["memory"][1:])
    _, _, terminations, _, infos = env.step(np.zeros((3, 2)))
    assert terminations.tolist() == [False, True, True]
    assert infos["index"][0] == 7


def test_the_order_of_images_can_be_saved(digits):
    env = vector(2, digits, autoreset_mode="SameStep")
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    for _ in range(6):
        one, other = (each.step(np.zeros((2, 2)))[4]["index"] for each in (env, twin))
        np.testing.assert_array_equal(one, other)


def test_an_observation_is_the_callers_own(digits):
    env = vector(2, digits)
    observations, infos = env.reset(seed=0)
    clean = {key: value.copy() for key, value in observations.items()}
    for value in (*observations.values(), *infos.values()):
        value[:] = 0
    after = env.step(np.zeros((2, 2)))
    fresh = vector(2, digits)
    fresh.reset(seed=0)
    compare(after, fresh.step(np.zeros((2, 2))))
    assert (clean["glance"] == after[0]["glance"]).all()


def test_the_same_actions_give_the_same_numbers(digits):
    def run():
        env = vector(3, digits, autoreset_mode="SameStep")
        results = [env.reset(seed=2)[0]["memory"]]
        rng = np.random.default_rng(0)
        for _ in range(5):
            observations, rewards, *_ = env.step(random_actions(rng, 3))
            results += [observations["memory"], rewards]
        return results

    for one, other in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_locations_beyond_the_edge_are_taken_as_the_edge(digits):
    env = vector(2, digits)
    env.reset(options={"indices": [0, 0]})
    observations, rewards, *_ = env.step(np.array([[3.0, -7.0], [1.0, -1.0]]))
    assert observations["location"].tolist() == [[1, -1], [1, -1]]
    assert rewards[0] == rewards[1]


@pytest.mark.parametrize(("sampling", "begins_at"), [("uncertain", 15), ("uncertain-full", 0)])
def test_uncertain_sampling_prefers_what_the_glance_leaves_open(network, sampling, begins_at):
    images = gfnet_env.load_images("cluttered-digits:scenes=200", "test")
    env = vector(50, images, model=network, sampling=sampling, autoreset_mode="SameStep")
    drawn = [env.reset(seed=0)[1]["label_confidence"]]
    drawn += [env.reset()[1]["label_confidence"] for _ in range(20 + begins_at)]
    drawn = drawn[begins_at:]
    everything = vector(200, images, model=network)
    plain = everything.reset(options={"indices": range(200)})[1]["label_confidence"]
    expected = np.average(plain, weights=1 - plain)
    assert np.mean(drawn) == pytest.approx(expected, abs=0.05)
    assert np.mean(drawn) < plain.mean() - 0.1


def test_a_reward_of_ones_own_sees_the_transition(digits, network):
    def reward(transition):
        assert len(transition.before) == len(transition.labels)
        again = transition.look(Look.at(transition.after.location))
        torch.testing.assert_close(again.logits, transition.after.logits)
        other = transition.look(-transition.after.location)
        assert not torch.equal(other.logits, again.logits)
        return 2 * confidence_gain(transition)

    own = vector(3, digits, model=network, reward=reward, exits="confidence:threshold=0.5")
    plain = vector(3, digits, model=network, exits="confidence:threshold=0.5")
    for env in (own, plain):
        env.reset(seed=0)
    for number in range(4):
        actions = random_actions(np.random.default_rng(number), 3)
        doubled, single = own.step(actions)[1], plain.step(actions)[1]
        np.testing.assert_allclose(doubled, 2 * single, atol=1e-6)


def test_a_picture_shows_the_patches_taken(digits):
    env = vector(2, digits, render_mode="rgb_array")
    with pytest.raises(RuntimeError, match="before the first reset"):
        env.render()
    env.reset(seed=0)
    blank = env.render()
    env.step(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    frames = env.render()
    assert len(frames) == 2
    for frame, before in zip(frames, blank, strict=True):
        assert frame.dtype == np.uint8
        assert frame.ndim == 3
        assert frame.shape[2] == 3
        assert (frame != before).any()
    assert vector(2, digits).render() is None


def test_weights_and_buffers_stay_as_they_are(digits, network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    env = vector(4, digits, model=network.train(), autoreset_mode="SameStep")
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros((4, 2)))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"num_envs": "two"}, "num_envs must be a whole number, not 'two'"),
        ({"look_cost": []}, r"look_cost must be a finite number, not \[\]"),
        ({"focus_steps": "x"}, "focus_steps must be a whole number, not 'x'"),
        ({"data_root": 3, "images": None}, "data_root must be a path, not 3"),
        ({"device": ["cpu"]}, r"no device \['cpu'\] here"),
        ({"reward": "applause"}, "unknown reward 'applause'; known: confidence-gain"),
        ({"sampling": "some"}, "unknown sampling 'some'; known: all, uncertain, uncertain-full"),
        ({"focus_steps": 4}, r"focus_steps must be in 1..3"),
        ({"focus_steps": 0}, r"focus_steps must be in 1..3"),
        ({"exits": "confidence:threshold=1.5"}, r"must be in \[0, 1\], not 1.5"),
        ({"exits": "late"}, "unknown exit rule 'late'; known: never; confidence:threshold=0.9"),
        ({"look_cost": -1.0}, "look_cost must be at least 0"),
        ({"observation": "smell"}, "unknown observation 'smell'; known: maps"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
        (
            {"autoreset_mode": "never"},
            "unknown autoreset_mode 'never'; known: 'NextStep', 'SameStep'",
        ),
        ({"autoreset_mode": "Sometimes"}, "Sometimes"),
        ({"images": "nothing"}, "unknown image set 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(digits, change, message):
    with pytest.raises(ValueError, match=message):
        GlanceFocusVectorEnv(**{"num_envs": 2, "images": digits} | change)


@pytest.mark.parametrize("name", ["reward", "exits", "observation", "features", "model"])
@pytest.mark.parametrize("part", [3, []])
def test_what_cannot_be_a_part_is_refused(digits, name, part):
    with pytest.raises(TypeError, match=re.escape(f"not {part!r}")):
        GlanceFocusVectorEnv(2, **{"images": digits, name: part})


def test_images_smaller_than_the_patch_are_refused_at_once():
    images = gfnet_env.ArrayImages(np.zeros((2, 3, 20, 40), dtype=np.uint8), [0, 1])
    with pytest.raises(ValueError, match="20×40, smaller than the patch of 32×32"):
        vector(2, images)


def test_a_network_of_images_in_memory_asks_for_them(network):
    network.trained_on = TrainingData()
    with pytest.raises(ValueError, match="pass the images"):
        GlanceFocusVectorEnv(2, model=network)


def test_the_device_is_one_that_there_is(digits):
    assert vector(1, digits, device="cpu").model.device.type == "cpu"
    with pytest.raises(ValueError, match="no device 'abacus'"):
        vector(1, digits, device="abacus")


def test_a_network_for_other_classes_is_refused(tiny_network, digits):
    with pytest.raises(ValueError, match="network knows 5 classes, the images have 10"):
        vector(2, digits, model=tiny_network)
    pixels = np.zeros((10, 3, 64, 64), dtype=np.uint8)
    letters = gfnet_env.ArrayImages(pixels, np.arange(10), class_names=tuple("abcdefghij"))
    with pytest.raises(ValueError, match="10 classes 0, 1, 2, 3, 4, …, the images have the 10"):
        vector(2, letters)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((2, 3)), r"actions must be \(2, 2\)"),
        (np.zeros(2), r"actions must be \(2, 2\)"),
        (np.array([[0, np.nan], [0, 0]]), "an action is NaN"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(digits, actions, message):
    env = vector(2, digits)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros((2, 2)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert (env.step(np.zeros((2, 2)))[0]["step"] == np.float32(1 / 3)).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"options": {"indices": [40]}}, IndexError, "image 40 does not exist"),
        ({"options": {"index": 5}}, ValueError, "no option 'index'; known: indices, reset_mask"),
        ({"options": {"indices": [1.7]}}, TypeError, "indices must be integers, not float64"),
        ({"options": {"indices": [True, False]}}, TypeError, "indices must be integers, not bool"),
        ({"options": {"reset_mask": np.zeros(2, dtype=bool)}}, ValueError, "no sub-environment"),
        ({"options": {"reset_mask": np.ones(3, dtype=bool)}}, ValueError, r"must be \(2,\) bool"),
        ({"options": {"reset_mask": np.ones(2)}}, ValueError, r"must be \(2,\) bool"),
        ({"seed": [1, 2, 3]}, ValueError, "3 seeds were given for 2"),
    ],
)
def test_wrong_resets_are_refused_and_change_nothing(digits, arguments, error, message):
    env, other = vector(2, digits), vector(2, digits)
    for each in (env, other):
        each.reset(seed=0)
    with pytest.raises(error, match=message):
        env.reset(**{"seed": 5} | arguments)
    assert env.reset()[1]["index"].tolist() == other.reset()[1]["index"].tolist()


class Damaged(gfnet_env.ArrayImages):
    """Images of which one cannot be read."""

    damaged = None

    def _regions(self, indices, boxes, shape, view):
        if self.damaged in indices:
            raise ValueError(f"image {self.damaged} is damaged")
        return super()._regions(indices, boxes, shape, view)


def test_an_image_that_cannot_be_read_asks_for_a_reset(digits):
    images = Damaged(digits[:], digits.labels)
    env = vector(2, images, autoreset_mode="SameStep", focus_steps=1)
    env.reset(options={"indices": [0, 1, 2, 3]})
    images.damaged = 3
    with pytest.raises(ValueError, match="image 3 is damaged"):
        env.step(np.zeros((2, 2)))
    with pytest.raises(RuntimeError, match="have ended; reset them"):
        env.step(np.zeros((2, 2)))
    # The episodes after these may be of any image.
    images.damaged = None
    env.reset(options={"indices": [4, 5]})
    assert env.step(np.zeros((2, 2)))[2].all()


def test_what_could_not_begin_begins_at_the_next_step(digits, monkeypatch):
    env = vector(2, digits, focus_steps=2, autoreset_mode="NextStep")
    env.reset(seed=0)
    env.step(np.zeros((2, 2)))
    env.reset(options={"reset_mask": np.array([True, False])})
    assert env.step(np.zeros((2, 2)))[2].tolist() == [False, True]
    with monkeypatch.context() as patched:
        patched.setattr(type(digits), "overview", lambda *_: pytest.fail("gone", pytrace=False))
        with pytest.raises(pytest.fail.Exception, match="gone"):
            env.step(np.zeros((2, 2)))
    # The other had ended in the same step.
    _, rewards, terminations, _, _ = env.step(np.zeros((2, 2)))
    assert not terminations.any()
    assert (rewards == 0).all()
    assert env.observations()["step"].tolist() == [[0], [0]]


def test_a_part_cannot_be_reset_before_the_whole(digits):
    env = vector(2, digits)
    with pytest.raises(RuntimeError, match="reset all sub-environments once"):
        env.reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("sampling", ["all", "uncertain", "uncertain-full"])
def test_an_environment_goes_on_from_its_state(digits, network, sampling):
    env, other = (
        vector(3, digits, model=network, sampling=sampling, autoreset_mode="SameStep")
        for _ in range(2)
    )
    with pytest.raises(RuntimeError, match="nothing to save before the first reset"):
        env.state_dict()
    with pytest.raises(RuntimeError, match="nothing to observe before the first reset"):
        env.observations()
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(4):
        before = env.step(random_actions(rng, 3))[0]
    state = copy.deepcopy(env.state_dict())
    other.load_state_dict(state)
    for key, value in other.observations().items():
        np.testing.assert_array_equal(value, before[key])
    for _ in range(7):
        actions = random_actions(rng, 3)
        (seen, *one, infos), (seen_there, *two, infos_there) = (
            env.step(actions),
            other.step(actions),
        )
        for mine, theirs in zip(one, two, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for key, value in seen.items():
            np.testing.assert_array_equal(value, seen_there[key])
        assert infos["index"].tolist() == infos_there["index"].tolist()
    with pytest.raises(ValueError, match="the state has 3 sub-environments, not 2"):
        vector(2, digits, model=network).load_state_dict(state)
    with pytest.raises(ValueError, match="the state is from 40 images, not 39"):
        vector(3, Subset(digits, np.arange(39)), model=network).load_state_dict(state)


@pytest.mark.parametrize("actions", ["continuous+stop", "grid:cells=3+stop"])
def test_a_stop_ends_the_episode_encodes_nothing_and_costs_nothing(digits, network, actions):
    calls = []
    network.local_encoder.register_forward_hook(lambda *_: calls.append(1))
    env = vector(3, digits, model=network, actions=actions, look_cost=0.1)
    plain = vector(3, digits, model=network, actions=actions)
    for each in (env, plain):
        before, _ = each.reset(seed=0)
    if actions.startswith("grid"):
        looks, stops = np.array([0, 4, 8]), np.array([9, 4, 9])
    else:
        looks = np.array([[0.3, 0.2, 0.5], [-1, 1, -1], [0, 0, 0]], dtype=np.float32)
        stops = np.array([[0, 0, 0.6], [-1, 1, 0.5], [0, 0, 1]], dtype=np.float32)
    costly, free = (each.step(looks) for each in (env, plain))
    np.testing.assert_allclose(costly[1], free[1] - 0.1, atol=1e-6)
    assert not costly[2].any()
    compare(costly[0], free[0])
    calls.clear()
    observations, rewards, terminations, _, infos = env.step(stops)
    assert len(calls) == 1
    assert terminations.tolist() == [True, False, True]
    assert rewards[[0, 2]].tolist() == [0, 0]
    for key, value in observations.items():
        np.testing.assert_array_equal(value[[0, 2]], costly[0][key][[0, 2]])
    np.testing.assert_array_equal(infos["logits"][[0, 2]], costly[4]["logits"][[0, 2]])
    assert set(before) == set(observations)


def test_a_step_of_stops_alone_calls_no_encoder(digits, network):
    env = vector(2, digits, model=network, actions="grid:cells=2+stop", autoreset_mode="Disabled")
    env.reset(seed=0)
    network.local_encoder.register_forward_hook(lambda *_: pytest.fail("encoded"))
    _, rewards, terminations, _, _ = env.step(np.array([4, 4]))
    assert terminations.all()
    assert (rewards == 0).all()


def test_zoom_goes_from_full_resolution_to_the_whole_picture(digits, network):
    env = vector(3, digits, model=network, actions="zoom")
    env.reset(seed=0)
    zooms = np.array([[0.1, -0.4, 1.0], [0, 0, 0], [0.7, 0.7, -1.0]], dtype=np.float32)
    observations, *_ = env.step(zooms)
    # The scale of a picture of 128 pixels and windows of 32 goes from 1 to 4.
    np.testing.assert_allclose(observations["scale"].ravel(), [1, 1 / 2, 1 / 4], rtol=1e-6)
    seen = observations["seen"]
    np.testing.assert_allclose(seen[2], 1)
    assert seen[0].sum() < seen[1].sum() < seen[2].sum()
    limited = vector(3, digits, model=network, actions="zoom:max_scale=2")
    limited.reset(seed=0)
    assert limited.step(zooms)[0]["scale"].min() == 0.5


def test_what_a_policy_is_shown_can_be_ones_own(digits, network):
    def confidences(state):
        return {"probabilities": state.probabilities}

    env = vector(2, digits, model=network, observation=confidences)
    assert env.observation_spec is None
    assert env.single_observation_space["probabilities"].shape == (10,)
    observations, infos = env.reset(seed=0)
    expected = torch.from_numpy(infos["logits"]).softmax(dim=1)
    np.testing.assert_allclose(observations["probabilities"], expected, rtol=1e-5)
    assert vector(2, digits, observation="plain").observation_spec == "plain"


def test_the_cost_of_looks_is_the_same_whatever_they_show(digits):
    rewards = []
    for cost in (0.0, 0.25):
        env = vector(2, digits, look_cost=cost, autoreset_mode="SameStep")
        env.reset(seed=3)
        rewards.append(np.stack([env.step(np.zeros((2, 2)))[1] for _ in range(4)]))
    np.testing.assert_allclose(rewards[1], rewards[0] - 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda transition: 1.0, r"the reward <lambda> must be a tensor \(2,\), one per image"),
        (lambda transition: torch.zeros(1, 2), r"one per image, not \(1, 2\)"),
        (lambda transition: torch.tensor([0.0, np.nan]), "is nan for image"),
    ],
)
def test_a_reward_is_one_finite_number_per_image(digits, reward, message):
    env = vector(2, digits, reward=reward)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must be at least 0, not -1"),
        (1.5, "seed must be a whole number, not 1.5"),
        ("1", "seed must be a whole number, not '1'"),
        ([0, -1], "seed must be at least 0, not -1"),
        ([0, "x"], "seed must be a whole number, not 'x'"),
        (np.array(2), "seed must be a whole number, not array"),
        ([0], "1 seeds were given for 2 sub-environments"),
    ],
)
def test_wrong_seeds_are_refused_and_change_nothing(digits, seed, message):
    env = vector(2, digits)
    before, _ = env.reset(seed=5)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=seed)
    after = env.observations()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    if not isinstance(seed, list):
        with pytest.raises(ValueError, match=message):
            GlanceFocusEnv(images=digits).reset(seed=seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([1, 2], r"options of reset must be a dict, not \[1, 2\]"),
        (np.zeros(3), "options of reset must be a dict"),
        ({"indices": [[0], 1]}, "indices must be numbers"),
        ({"indices": np.array([], dtype=str)}, "indices must be numbers"),
        ({"reset_mask": [True, []]}, "reset_mask must be numbers"),
        ({"reset_mask": "ab"}, "reset_mask must be numbers"),
    ],
)
def test_wrong_options_are_refused(digits, options, message):
    env = vector(2, digits)
    env.reset(seed=5)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def _shown(value):
    return lambda state: {"seen": value(state)}


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (lambda state: None, "the observation <lambda> must be a dict of tensors, not NoneType"),
        (lambda state: state.location, r"must be a dict of tensors, not \(2, 2\) torch.float32"),
        (_shown(lambda state: state.location[:1]), r"a row for each of 2 pictures, not \(1, 2\)"),
        (_shown(lambda state: torch.tensor(1.0)), r"not \(\) torch.float32"),
        (_shown(lambda state: state.number), r"'seen' of the observation .* float32 .*int64"),
        (_shown(lambda state: state.location.numpy()), "not ndarray"),
        (_shown(lambda state: {"inner": state.location}), "not dict"),
        (lambda state: {1: state.location}, "the names of the observation .* text, not 1"),
        (lambda state: {}, "must be a dict of tensors, not an empty one"),
        (_shown(lambda state: state.location / 0), "'seen' of the observation .* not finite"),
    ],
)
def test_an_observation_has_a_row_of_floats_for_each_picture(digits, observation, message):
    with pytest.raises(ValueError, match=message):
        GlanceFocusVectorEnv(3, images=digits, observation=observation)


def test_an_observation_keeps_its_shape(digits):
    def growing(state):
        return {"past": torch.zeros(len(state), 1 + int(state.number.max()))}

    envs = GlanceFocusVectorEnv(3, images=digits, observation=growing)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"'past' of the observation is \(2,\) now and was \(1,\)"):
        envs.step(envs.action_space.sample())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_observation_stays_finite(digits, value):
    def failing(state):
        later = torch.where(state.number[:, None] > 0, value, state.location)
        return {"fine": state.location, "later": later}

    envs = GlanceFocusVectorEnv(3, images=digits, observation=failing)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="'later' of the observation failing .* not finite"):
        envs.step(envs.action_space.sample())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda state: None, r"the exit rule <lambda> must be a tensor \(3,\) bool, .* NoneType"),
        (lambda state: [True] * 3, "not list"),
        (lambda state: state.confidence, r"not \(3,\) torch.float32"),
        # One for all would be taken for each.
        (lambda state: (state.confidence > 0)[:1], r"one per image, not \(1,\) torch.bool"),
        (lambda state: state.location > 0, r"not \(3, 2\) torch.bool"),
    ],
)
def test_an_exit_rule_says_yes_or_no_for_each_picture(digits, rule, message):
    envs = GlanceFocusVectorEnv(3, images=digits, exits=rule)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(envs.action_space.sample())


def test_what_is_no_tensor_of_actions_is_refused(tiny_network, tiny_images):
    env = GlanceFocusVectorEnv(2, model=tiny_network, images=tiny_images, autoreset_mode="SameStep")
    env.reset_tensors(seed=0)
    for actions in (np.zeros((2, 2)), [[0, 0], [0, 0]], None, torch.zeros(2, 2, device="meta")):
        with pytest.raises(TypeError, match="step_tensors takes a tensor on cpu, not a"):
            env.step_tensors(actions)
    for kind in (torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=rf"in \[-1, 1\], not {kind}"):
            env.step_tensors(torch.zeros(2, 2, dtype=kind))
    assert env.step_tensors(torch.zeros(2, 2)).terminated.tolist() == [False, False]
