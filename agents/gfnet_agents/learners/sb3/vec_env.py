"""From a gymnasium vector environment to one of stable-baselines3."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from gfnet_env.env.vector import GlanceFocusVectorEnv, Info
from gfnet_env.observations import FlatView


class StableBaselinesVecEnv(VecEnv):
    """The vector environment as stable-baselines3 wants it.

    Episodes that end are reported as it expects: the last observation as ``terminal_observation``,
    the return and length as ``episode``, and ``is_success`` where the prediction was right.

    Args:
        env: A vector environment that resets in the same step.

    Raises:
        ValueError: It resets at another time.
    """

    def __init__(self, env: GlanceFocusVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                "stable-baselines3 needs autoreset_mode='SameStep', "
                f"not {env.autoreset_mode.value!r}"
            )
        # The base class already asks for attributes of the environment.
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: npt.NDArray[Any] | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.env.reset(seed=seeds, options=self._merged_options())
        self.reset_infos = [self._row(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        assert self._actions is not None
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminations | truncations
        # Only episodes that have ended have something to report.
        reports: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(dones):
            final = self._row(infos["final_info"], row)
            reports[row] = {
                **final,
                "terminal_observation": infos["final_obs"][row],
                "TimeLimit.truncated": bool(truncations[row]),
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row])},
                "is_success": final["correct"],
            }
        self._returns[dones] = 0
        self._lengths[dones] = 0
        return observations, rewards.astype(np.float32), dones, reports

    def observations(self) -> VecEnvObs:
        """What all sub-environments show now."""
        return self.env.observations()

    def state_dict(self) -> dict[str, Any]:
        """The returns and lengths of the episodes under way; the environment has its own state."""
        return {
            "returns": torch.from_numpy(self._returns.copy()),
            "lengths": torch.from_numpy(self._lengths.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was called."""
        # A seed that no reset has taken yet is not for the next one.
        self._reset_seeds()
        self._returns = state["returns"].numpy().copy()
        self._lengths = state["lengths"].numpy().copy()

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the one environment that all sub-environments are."""
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
        """Call a method of the one environment, once.

        Of ``action_masks``, which has a row for each sub-environment, each gets its own.
        """
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        rows = self._get_indices(indices)
        return [result[row] if method_name == "action_masks" else result for row in rows]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        return self.env.render() or [None] * self.num_envs

    def _merged_options(self) -> dict[str, Any] | None:
        """The options of all sub-environments as one: each may name an image of its own."""
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

    @staticmethod
    def _row(infos: Info, row: int | np.integer) -> dict[str, Any]:
        return {key: value[row].tolist() for key, value in infos.items() if not key.startswith("_")}


class FlatObservations(VecEnvWrapper):
    """The same environment with each observation as one vector, see ``FlatView``.

    Args:
        env: What to wrap.
    """

    venv: StableBaselinesVecEnv

    def __init__(self, env: StableBaselinesVecEnv) -> None:
        assert isinstance(env.observation_space, spaces.Dict)
        self.view = FlatView(env.observation_space)
        super().__init__(env, observation_space=self.view.space)

    def reset(self) -> VecEnvObs:
        return self._flat(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, reports = self.venv.step_wait()
        for row in np.flatnonzero(dones):
            last = reports[row]["terminal_observation"]
            reports[row]["terminal_observation"] = self.view.flatten(last)
        return self._flat(observations), rewards, dones, reports

    def observations(self) -> VecEnvObs:
        return self._flat(self.venv.observations())

    def _flat(self, observations: VecEnvObs) -> npt.NDArray[np.float32]:
        assert isinstance(observations, dict)
        return self.view.flatten(observations)
