import numpy as np
import pytest

from gfnet_agents.learners.sb3 import StableBaselinesVecEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv


@pytest.fixture
def env(digits):
    arguments = {
        "images": digits,
        "exits": "confidence:threshold=0.9",
        "autoreset_mode": "SameStep",
    }
    return StableBaselinesVecEnv(GlanceFocusVectorEnv(4, **arguments))


def test_it_reports_episodes_as_stable_baselines3_expects(env):
    env.seed(3)
    env.reset()
    first = [info["label_confidence"] for info in env.reset_infos]
    rng = np.random.default_rng(0)
    lengths, ended = np.zeros(4, dtype=int), 0
    for _ in range(12):
        observations, rewards, dones, infos = env.step(rng.uniform(-1, 1, (4, 2)))
        lengths += 1
        assert rewards.dtype == np.float32
        for row in range(4):
            info = infos[row]
            if not dones[row]:
                assert info == {}
                continue
            ended += 1
            assert info["episode"]["l"] == lengths[row]
            assert info["is_success"] == info["correct"]
            assert info["TimeLimit.truncated"] is False
            last = info["terminal_observation"]
            assert last["step"] == np.float32(lengths[row] / 3)
            assert observations["step"][row] == 0
            if first[row] is not None:
                gain = info["label_confidence"] - first[row]
                assert info["episode"]["r"] == pytest.approx(gain, abs=1e-5)
                first[row] = None
            lengths[row] = 0
    assert ended > 12


def test_seeds_and_options_reach_the_next_reset_only(env):
    env.seed(3)
    env.set_options([{"indices": [row]} for row in (9, 8, 7, 6)])
    env.reset()
    assert [info["index"] for info in env.reset_infos] == [9, 8, 7, 6]
    env.reset()
    order = [info["index"] for info in env.reset_infos]
    env.seed(3)
    env.reset()
    assert [info["index"] for info in env.reset_infos] == order


@pytest.mark.parametrize(
    "options", [[{}, {}, {}, {"indices": [5]}], [{"indices": [1, 2]}] * 4, [{"luck": 1}] * 4]
)
def test_options_that_would_go_astray_are_refused(env, options):
    env.set_options(options)
    with pytest.raises(ValueError, match="indices"):
        env.reset()


def test_attributes_are_those_of_the_vector_environment(env):
    assert env.get_attr("num_envs") == [4] * 4
    assert env.get_attr("num_envs", [0]) == [4]
    env.set_attr("render_mode", "rgb_array")
    env.reset()
    assert len(env.get_images()) == 4
    assert env.env_method("render", indices=[1])[0][0].dtype == np.uint8
    with pytest.raises(ValueError, match="all sub-environments together"):
        env.set_attr("render_mode", None, indices=[1])
    for name in ("exit_confidence", "exits", "look_cost", "focus_steps"):
        with pytest.raises(AttributeError, match=f"setting {name} would change nothing, or only"):
            env.set_attr(name, 1)


def test_every_sub_environment_has_its_own_mask(make_env):
    env = StableBaselinesVecEnv(make_env("grid:cells=3"))
    env.reset()
    env.step(np.arange(8))
    masks = np.stack(env.env_method("action_masks"))
    np.testing.assert_array_equal(masks, env.env.action_masks())
    assert [np.flatnonzero(~row).tolist() for row in masks] == [[cell] for cell in range(8)]
    assert len(env.env_method("action_masks", indices=[2])) == 1


def test_flat_observations_are_the_same_ones(make_env):
    plain = StableBaselinesVecEnv(make_env())
    flat = StableBaselinesVecEnv(make_env(), flat=True)
    for env in (plain, flat):
        env.seed(3)
    view = flat.view

    def same(vectors, parts):
        np.testing.assert_array_equal(vectors, view.flatten(parts))

    same(flat.reset(), plain.reset())
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (8, 2))
        (shown, *mine, infos), (parts, *theirs, reports) = flat.step(actions), plain.step(actions)
        same(shown, parts)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
        for info, report in zip(infos, reports, strict=True):
            assert set(info) == set(report)
            if report:
                same(info["terminal_observation"], report["terminal_observation"])
    np.testing.assert_array_equal(flat.observations(), shown)


def test_another_autoreset_mode_is_refused(digits):
    with pytest.raises(ValueError, match="needs autoreset_mode='SameStep', not 'NextStep'"):
        StableBaselinesVecEnv(GlanceFocusVectorEnv(4, images=digits))
