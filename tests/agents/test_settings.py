import dataclasses
import math

import pytest

from gfnet_agents import ALGORITHMS, PolicyConfig, PolicySchedule, parse_config
from gfnet_agents.settings import parse_settings, schedule_arguments


def arguments(name, **fields):
    schedule = dataclasses.asdict(PolicySchedule(**fields))
    return schedule_arguments(schedule, ALGORITHMS[name], name, num_envs=8, focus_steps=3)


def test_a_schedule_becomes_arguments():
    assert arguments("ppo") == {}
    found = arguments(
        "ppo", episodes_per_update=2, minibatches=4, passes=3, discount=0.5, deviation=0.2
    )
    expected = {"n_steps": 6, "batch_size": 12, "n_epochs": 3, "gamma": 0.5}
    assert found == expected | {"policy_kwargs": {"log_std_init": math.log(0.2)}}
    assert arguments("ppo", minibatches=3)["batch_size"] == 12 * 8 // 3
    assert arguments("sac", policy_rate=1e-4, entropy_weight=0.1) == {
        "learning_rate": 1e-4,
        "ent_coef": 0.1,
    }


def test_settings_win_and_keep_what_they_do_not_name():
    found = arguments("ppo", deviation=0.2, settings=('policy_kwargs={"net_arch":[64]}',))
    assert found == {"policy_kwargs": {"log_std_init": math.log(0.2), "net_arch": [64]}}
    found = arguments("ppo", minibatches=2, settings=("n_steps=6",))
    assert found == {"batch_size": 6 * 8 // 2, "n_steps": 6}
    assert arguments("ppo", policy_rate=0.1, settings=("learning_rate=0.2",)) == {
        "learning_rate": 0.2
    }


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("sac", {"clip_range": 0.2}, "sac has no clip_range: leave that out; it has policy_rate"),
        ("td3", {"passes": 2, "episodes_per_update": 1}, "td3 has no passes, episodes_per_update"),
        ("a2c", {"minibatches": 2}, "a2c has no minibatches"),
        ("maskable-ppo", {"deviation": 0.2}, "maskable-ppo has no deviation"),
        ("ars", {"discount": 0.5}, "ars has no discount"),
        ("ppo", {"minibatches": 7}, "96 steps between updates cannot be gone over in 7"),
    ],
)
def test_what_an_algorithm_lacks_is_named(name, fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(name, **fields)


def test_settings_are_json_or_strings():
    found = parse_settings(["batch_size=32", "ent_coef=auto_0.1", 'policy_kwargs={"a": [1]}', "x="])
    assert found == {
        "batch_size": 32,
        "ent_coef": "auto_0.1",
        "policy_kwargs": {"a": [1]},
        "x": "",
    }
    for wrong, message in ((["a"], "key=value, not 'a'"), (["a=1", "a=2"], "a is given twice")):
        with pytest.raises(ValueError, match=message):
            parse_settings(wrong)
        with pytest.raises(ValueError, match=message):
            PolicySchedule(settings=tuple(wrong))


def test_the_command_line_sets_them():
    given = ["--algorithm", "sac", "--set", "tau=1", "ent_coef=auto", "--timesteps", "5"]
    parsed = parse_config(PolicyConfig, "", given)
    assert parsed.settings == ("tau=1", "ent_coef=auto")
    assert (parsed.algorithm, parsed.timesteps) == ("sac", 5)
