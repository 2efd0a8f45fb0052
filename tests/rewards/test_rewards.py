import copy

import numpy as np
import pytest
import torch

from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.rewards import RandomContrast


def play(digits, reward, steps=6, count=3, **arguments):
    """Rewards of fixed actions, (steps, count)."""
    env = GlanceFocusVectorEnv(
        count, images=digits, reward=reward, autoreset_mode="SameStep", **arguments
    )
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps, count, 2)).astype(np.float32)
    return np.stack([env.step(action)[1] for action in actions])


def test_the_fall_of_the_cross_entropy_is_in_logarithms(digits):
    def logarithms(transition):
        before = transition.before.label_confidence(transition.labels)
        return (transition.after.label_confidence(transition.labels) / before).log()

    found = play(digits, "cross-entropy-gain")
    np.testing.assert_allclose(found, play(digits, logarithms), atol=1e-4)
    assert np.abs(found).max() > 0.1


def test_a_sparse_reward_comes_once_and_only_to_what_is_right(digits):
    env = GlanceFocusVectorEnv(20, images=digits, reward="sparse", exits="confidence")
    _, infos = env.reset(options={"indices": range(20)})
    over = np.zeros(20, dtype=bool)
    won = 0
    for _ in range(3):
        # The first step after an end only resets, and is not looked at any more.
        _, rewards, terminations, _, infos = env.step(np.zeros((20, 2), dtype=np.float32))
        expected = (terminations & infos["correct"]).astype(float)
        assert rewards[~over].tolist() == expected[~over].tolist()
        won += rewards[~over].sum()
        over |= terminations
    assert over.all()
    assert 0 < won < 20


def test_a_contrast_is_with_another_patch_in_the_same_state(digits):
    looked = []

    def watched(transition):
        def look(locations):
            looked.append(locations)
            return transition.look(locations)

        reward = RandomContrast(seed=3)(
            type(transition)(**vars(transition) | {"look": look})  # All else as it was.
        )
        after = transition.after.label_confidence(transition.labels)
        other = transition.look(looked[-1]).label_confidence(transition.labels)
        torch.testing.assert_close(reward, after - other)
        return reward

    rewards = play(digits, watched)
    np.testing.assert_array_equal(rewards, play(digits, RandomContrast(seed=3)))
    assert (rewards != play(digits, RandomContrast(seed=4))).any()
    drawn = torch.cat(looked)
    assert drawn.abs().max() <= 1
    assert len(drawn.unique(dim=0)) > len(drawn) / 2


def test_what_is_subtracted_does_not_depend_on_the_action(digits, network):
    def contrasts(action):
        env = GlanceFocusVectorEnv(4, model=network, images=digits, reward="random-contrast")
        env.reset(options={"indices": [3, 4, 5, 6]})
        _, rewards, _, _, infos = env.step(np.full((4, 2), action, dtype=np.float32))
        return infos["label_confidence"] - rewards

    np.testing.assert_allclose(contrasts(0.0), contrasts(0.7), atol=1e-6)


def test_contrasts_are_repeatable_and_go_on_from_a_state(digits, network):
    arguments = {"images": digits, "model": network, "reward": "random-contrast"}
    envs = [GlanceFocusVectorEnv(3, autoreset_mode="SameStep", **arguments) for _ in range(2)]
    third = GlanceFocusVectorEnv(3, autoreset_mode="SameStep", **arguments)
    alone = GlanceFocusEnv(**arguments)
    for env in (*envs, alone):
        env.reset(seed=5)
    action = np.full((3, 2), 0.3, dtype=np.float32)
    for step in range(5):
        if step == 2:
            third.load_state_dict(copy.deepcopy(envs[0].state_dict()))
        one, other = (env.step(action)[1] for env in envs)
        np.testing.assert_array_equal(one, other)
        if step < 3:
            assert alone.step(action[0])[1] == pytest.approx(one[0], abs=1e-5)
        if step >= 2:
            np.testing.assert_array_equal(third.step(action)[1], one)


def test_random_patches_are_worth_nothing_against_random_ones(digits):
    rewards = play(digits, "random-contrast", steps=40, count=20)
    assert abs(rewards.mean()) < 0.05
    assert rewards.std() > 0.02


def test_a_reward_of_ones_own_knows_the_images(digits):
    class OncePerImage:
        def __init__(self):
            self.met = []

        def __call__(self, transition):
            assert transition.indices.shape == transition.labels.shape
            assert torch.equal(transition.labels, digits.labels[transition.indices])
            fresh = [index not in self.met for index in transition.indices]
            self.met += transition.indices.tolist()
            return torch.tensor(fresh).float()

    rewards = play(digits, OncePerImage(), count=1)
    assert (rewards[::3] == 1).all()
    assert (rewards[[1, 2, 4, 5]] == 0).all()


def test_an_unknown_reward_lists_the_known_ones(digits):
    names = "confidence-gain; cross-entropy-gain; random-contrast:seed=0; sparse"
    with pytest.raises(ValueError, match=f"unknown reward 'praise'; .*known: {names}"):
        GlanceFocusVectorEnv(1, images=digits, reward="praise")
