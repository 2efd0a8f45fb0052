"""Convert a Gymnasium vector environment to one of stable-baselines3."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from gfnet_env.env.vector import GlanceFocusVectorEnv, Info
from gfnet_env.observations import FlatView


class StableBaselinesVecEnv(VecEnv):
    """The vector environment with the interface of stable-baselines3.

    At the end of an episode, its info holds the last observation as ``terminal_observation``, the
    return and length as ``episode``, and whether the prediction was right as ``is_success``.

    Args:
        env: A vector environment with autoreset in the same step.
        flat: Whether each observation is one vector, for algorithms that take no dicts.

    Attributes:
        env: The same as the argument.
        view: Makes the vectors and splits them again; None unless ``flat``.

    Raises:
        TypeError: The environment is in a wrapper.
        ValueError: It has another autoreset mode.
    """

    def __init__(self, env: GlanceFocusVectorEnv, *, flat: bool = False) -> None:
        if not isinstance(env, GlanceFocusVectorEnv):
            raise TypeError(
                f"this takes a GlanceFocusVectorEnv, not {type(env).__name__}: a wrapper may "
                "change observations or actions, and what is learned could not be used without it"
            )
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                "stable-baselines3 needs autoreset_mode='SameStep', "
                f"not {env.autoreset_mode.value!r}"
            )
        space = env.single_observation_space
        assert isinstance(space, spaces.Dict)
        self.view = FlatView(space) if flat else None
        # The base class already asks for attributes of the environment.
        self.env = env
        shown = space if self.view is None else self.view.space
        super().__init__(env.num_envs, shown, env.single_action_space)
        self._actions: npt.NDArray[Any] | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.env.reset(seed=seeds, options=self._merged_options())
        self.reset_infos = [_row(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return self._shown(observations)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        assert self._actions is not None
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminations | truncations
        # Only ended episodes have something to report.
        reports: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(dones):
            final = _row(infos["final_info"], row)
            reports[row] = {
                **final,
                "terminal_observation": self._shown(infos["final_obs"][row]),
                "TimeLimit.truncated": bool(truncations[row]),
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row])},
                "is_success": final["correct"],
            }
        self._returns[dones] = 0
        self._lengths[dones] = 0
        return self._shown(observations), rewards.astype(np.float32), dones, reports

    def observations(self) -> VecEnvObs:
        """The current observations of all sub-environments."""
        return self._shown(self.env.observations())

    def state_dict(self) -> dict[str, Any]:
        """Returns and lengths of the current episodes; the environment saves the rest itself."""
        return {
            "returns": torch.from_numpy(self._returns.copy()),
            "lengths": torch.from_numpy(self._lengths.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a ``state_dict``."""
        # Drop a seed that no reset has used yet.
        self._reset_seeds()
        self._returns = state["returns"].numpy().copy()
        self._lengths = state["lengths"].numpy().copy()

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set ``render_mode``, which all sub-environments share; all else is fixed."""
        if attr_name != "render_mode":
            raise AttributeError(
                f"setting {attr_name} would change nothing, or only a part: give it to "
                "GlanceFocusVectorEnv when you make it"
            )
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name} can only be set for all sub-environments together")
        setattr(self.env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the vector environment once; each sub-environment gets its own mask."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        rows = self._get_indices(indices)
        return [result[row] if method_name == "action_masks" else result for row in rows]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        return self.env.render() or [None] * self.num_envs

    def _shown(self, observations: Any) -> Any:
        return observations if self.view is None else self.view.flatten(observations)

    def _merged_options(self) -> dict[str, Any] | None:
        """Merge the options of all sub-environments; each may name its own image."""
        if not any(self._options):
            return None
        if not all(set(options) == {"indices"} for options in self._options):
            raise ValueError(
                "options must give every sub-environment its 'indices' and nothing else, "
                f"not {self._options}"
            )
        indices = [np.ravel(options["indices"]) for options in self._options]
        if any(len(rows) != 1 for rows in indices):
            raise ValueError(f"'indices' must name one image per sub-environment, not {indices}")
        return {"indices": np.concatenate(indices)}


def _row(infos: Info, row: int | np.integer) -> dict[str, Any]:
    return {key: value[row].tolist() for key, value in infos.items() if not key.startswith("_")}
