"""Augmented random search on the same observations as the other algorithms."""

from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib import ARS
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.vec_env.async_eval import AsyncEval
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from gfnet_agents.learners.sb3.extractor import ObservationExtractor


class RandomSearchPolicy(ARSPolicy):
    """A linear layer on a small ``ObservationExtractor``: fewer weights are easier to search.

    ``sizes`` are the arguments of the extractor's encoder; see ``ARSPolicy`` for the others.
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
    """ARS that counts environment steps correctly: every look at an image is one step.

    A rollout starts before its candidates are drawn, so that a resumed run draws the same ones.
    """

    def _do_one_update(self, callback: BaseCallback, async_eval: AsyncEval | None) -> None:
        callback.on_rollout_start()
        super()._do_one_update(callback, async_eval)

    def evaluate_candidates(
        self, candidate_weights: torch.Tensor, callback: BaseCallback, async_eval: AsyncEval | None
    ) -> torch.Tensor:
        # The callback already knows that a rollout starts.
        silent = CallbackList([])
        silent.init_callback(self)
        return super().evaluate_candidates(candidate_weights, silent, async_eval)

    def _trigger_callback(
        self, _locals: dict[str, Any], _globals: dict[str, Any], callback: BaseCallback, n_envs: int
    ) -> None:
        super()._trigger_callback(_locals, _globals, callback, n_envs=1)
