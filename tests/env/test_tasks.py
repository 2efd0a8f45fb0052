import gymnasium as gym
import pytest

import gfnet_env
from gfnet_env.tasks import TASKS


@pytest.mark.parametrize("name", TASKS)
def test_the_network_of_a_task_was_trained_on_pictures_of_its_kind(name: str) -> None:
    task = TASKS[name]
    trained_on = gfnet_env.pretrained(task.network).model.trained_on.images
    assert trained_on is not None
    assert trained_on.partition(":")[0] == task.images.partition(":")[0]


def test_a_task_is_an_environment_with_its_pictures() -> None:
    hard, default = (
        gym.make(f"gfnet_env/{name}-v0").unwrapped
        for name in ("ClutteredDigitsHard", "ClutteredDigits")
    )
    assert hard.images.clutter.pieces == 30
    assert default.images.clutter.pieces == 10
    _, info = hard.reset(seed=0)
    assert info["index"] == default.reset(seed=0)[1]["index"]
    assert gym.make_vec("gfnet_env/ClutteredDigitsHard-v0", num_envs=2).num_envs == 2
