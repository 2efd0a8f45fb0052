import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import gfnet_env  # noqa: F401  registers the environment
from gfnet_env.env.single import GlanceFocusEnv


def test_gymnasium_finds_nothing_wrong():
    # Warnings are errors in these tests.
    env = gym.make("gfnet_env/GlanceFocus-v0", render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_stable_baselines3_only_takes_features_for_a_picture():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env_for_sb3(gym.make("gfnet_env/GlanceFocus-v0").unwrapped)
    messages = [str(warning.message) for warning in caught]
    assert messages
    assert all("image" in message for message in messages)
    for other in ("glance", "memory", "location", "step"):
        assert not any(f"observation {other}" in message for message in messages)


def test_infos_and_rewards_are_scalars(digits):
    env = GlanceFocusEnv(images=digits)
    _, info = env.reset(options={"indices": [3]})
    kinds = {
        "index": int,
        "label": int,
        "prediction": int,
        "confidence": float,
        "label_confidence": float,
        "correct": bool,
        "logits": np.ndarray,
    }
    assert {key: type(value) for key, value in info.items()} == kinds
    assert info["index"] == 3
    observation, reward, terminated, truncated, info = env.step(np.zeros(2, dtype=np.float32))
    assert env.observation_space.contains(observation)
    assert {key: type(value) for key, value in info.items()} == kinds
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)


def test_asked_for_images_serve_several_episodes(digits):
    env = GlanceFocusEnv(images=digits)
    indices = [env.reset(seed=0, options={"indices": [8, 9]})[1]["index"]]
    indices.append(env.reset()[1]["index"])
    assert indices == [8, 9]


def test_an_episode_may_end_at_the_exit_confidence(digits):
    env = GlanceFocusEnv(images=digits, exits="confidence:threshold=0")
    env.reset(seed=0)
    assert env.step(np.zeros(2))[2]


def test_wrong_actions_and_finished_episodes_are_refused(digits):
    env = GlanceFocusEnv(images=digits, focus_steps=1)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"an action must be \(2,\)"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="an action is NaN"):
        env.step(np.array([np.nan, 0]))
    env.step(np.zeros(2))
    with pytest.raises(RuntimeError, match="have ended"):
        env.step(np.zeros(2))


def test_a_picture_of_the_episode(digits):
    env = GlanceFocusEnv(images=digits, render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert frame.dtype == np.uint8
    assert frame.shape[2] == 3
    assert GlanceFocusEnv(images=digits).render() is None
