"""The single environment: a vector of one."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode

from gfnet_env.data import ImageSet
from gfnet_env.env.reward import Reward
from gfnet_env.env.sampling import Sampling
from gfnet_env.env.vector import GlanceFocusVectorEnv, Info, Observations
from gfnet_env.features import FeatureSource
from gfnet_env.perception import GlanceFocusNetwork


class GlanceFocusEnv(gym.Env[Observations, npt.NDArray[Any]]):
    """Glance-and-focus on one image at a time.

    See ``GlanceFocusVectorEnv`` for the process, the arguments and the options of ``reset``
    (``indices``); this is a vector of one, with scalars for rewards and infos.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        *,
        network: GlanceFocusNetwork | str | Path | None = None,
        images: ImageSet | str | None = None,
        split: str = "train",
        data_root: str | Path = "data",
        features: str | FeatureSource = "live",
        focus_steps: int | None = None,
        actions: str = "continuous",
        grid: int = 7,
        reward: str | Reward = "confidence-gain",
        exit_confidence: float | None = None,
        sampling: Sampling = "all",
        device: str | torch.device | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._vector = GlanceFocusVectorEnv(
            1,
            network=network,
            images=images,
            split=split,
            data_root=data_root,
            features=features,
            focus_steps=focus_steps,
            actions=actions,
            grid=grid,
            reward=reward,
            exit_confidence=exit_confidence,
            sampling=sampling,
            device=device,
            render_mode=render_mode,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        self.network = self._vector.network
        self.images = self._vector.images
        self.focus_steps = self._vector.focus_steps
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, Info]:
        super().reset(seed=seed)
        observations, infos = self._vector.reset(seed=seed, options=options)
        return _first(observations), _scalars(infos)

    def step(self, action: npt.NDArray[Any]) -> tuple[Observations, float, bool, bool, Info]:
        given = np.asarray(action)
        wanted = self.action_space.shape or ()
        if given.shape != wanted:
            raise ValueError(
                f"an action must be {wanted}, {self._vector.actions.meaning}, not {given.shape}"
            )
        observations, rewards, terminations, truncations, infos = self._vector.step(given[None])
        return (
            _first(observations),
            float(rewards[0]),
            bool(terminations[0]),
            bool(truncations[0]),
            _scalars(infos),
        )

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Cells that have not been looked at in this episode, (cells,).

        Where it has looked at all of them, all are True again.

        Raises:
            ValueError: Actions are not cells of a grid.
        """
        return self._vector.action_masks()[0]

    def render(self) -> npt.NDArray[np.uint8] | None:
        frames = self._vector.render()
        return None if frames is None else frames[0]


def _first(observations: Observations) -> Observations:
    return {key: value[0] for key, value in observations.items()}


def _scalars(infos: Info) -> Info:
    return {key: value[0].item() for key, value in infos.items() if not key.startswith("_")}
