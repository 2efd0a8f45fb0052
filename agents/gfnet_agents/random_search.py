"""Augmented random search on what the other algorithms see."""

from typing import Any

from gymnasium import spaces
from sb3_contrib import ARS
from sb3_contrib.ars.policies import ARSPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from gfnet_agents.extractor import ObservationExtractor


class RandomSearchPolicy(ARSPolicy):
    """A linear layer on a small ``ObservationExtractor``: the fewer weights, the better a search.

    Args:
        observation_space: Of the environment.
        action_space: Likewise.
        net_arch: Widths of hidden layers.
        sizes: Sizes of the extractor's encoder.
        others: See ``ARSPolicy``.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: list[int] | None = None,
        sizes: dict[str, int] | None = None,
        **others: Any,
    ) -> None:
        self._sizes = {"channels": 8, "points": 4, "width": 4} if sizes is None else sizes
        super().__init__(observation_space, action_space, net_arch or [], **others)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        return ObservationExtractor(self.observation_space, None, **self._sizes)


class RandomSearch(ARS):
    """ARS that counts a focus step of one image as one, where it counts a step of all as each."""

    def _trigger_callback(
        self,
        _locals: dict[str, Any],
        _globals: dict[str, Any],
        callback: BaseCallback,
        n_envs: int,
    ) -> None:
        super()._trigger_callback(_locals, _globals, callback, n_envs=1)
