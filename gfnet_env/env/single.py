"""The single environment: a vector of one."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from gfnet_env.arrays import as_array
from gfnet_env.env.vector import GlanceFocusVectorEnv, Info, Observations, check_seed


class GlanceFocusEnv(gym.Env[Observations, npt.NDArray[Any]]):
    """Glance-and-focus on one picture at a time: a vector of one, with scalar rewards and infos.

    Args:
        render_mode: None or ``rgb_array``.
        arguments: Arguments of ``GlanceFocusVectorEnv``, except ``num_envs`` and
            ``autoreset_mode``. That class also describes the process and the options of ``reset``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, **arguments: Any) -> None:
        self._vector = GlanceFocusVectorEnv(
            1, render_mode=render_mode, autoreset_mode=AutoresetMode.DISABLED, **arguments
        )
        self.model = self._vector.model
        self.images = self._vector.images
        self.actions = self._vector.actions
        self.focus_steps = self._vector.focus_steps
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, Info]:
        super().reset(seed=check_seed(seed))
        observations, infos = self._vector.reset(seed=seed, options=options)
        return _first(observations), _first_info(infos)

    def step(self, action: npt.NDArray[Any]) -> tuple[Observations, float, bool, bool, Info]:
        given = as_array(action, "an action's numbers")
        wanted = self.action_space.shape or ()
        if given.shape != wanted:
            raise ValueError(
                f"an action must be {wanted}, {self.actions.meaning}, not {given.shape}"
            )
        observations, rewards, terminated, truncated, infos = self._vector.step(given[None])
        ended = bool(terminated[0]), bool(truncated[0])
        return _first(observations), float(rewards[0]), *ended, _first_info(infos)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Cells that this episode may look at, (actions,), see ``GlanceFocusVectorEnv``."""
        return self._vector.action_masks()[0]

    def render(self) -> npt.NDArray[np.uint8] | None:
        frames = self._vector.render()
        return None if frames is None else frames[0]


def _first(observations: Observations) -> Observations:
    return {key: value[0] for key, value in observations.items()}


def _first_info(infos: Info) -> Info:
    """Infos as scalars, except the logits, which stay an array."""
    given = {key: value[0] for key, value in infos.items() if not key.startswith("_")}
    return {key: value if value.ndim else value.item() for key, value in given.items()}
