"""The learning curve: what a policy is worth while it is learned."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from gfnet_agents.learned import learned_policy
from gfnet_env.data import ImageSet
from gfnet_env.files import read_json, write_json
from gfnet_env.inference import evaluate_policy
from gfnet_env.perception import GlanceFocusNetwork


class LearningCurve(BaseCallback):
    """Evaluates what was learned so far on some images, evenly over the environment steps.

    It draws no random number, so an agent learns the same with and without it.

    Args:
        network: What sees.
        images: To evaluate on; not what is learned from.
        count: How many of them, the first ones.
        timesteps: Environment steps that will be taken.
        points: Evaluations after the first, which comes before anything is learned; with 0 there
            is none at all.
        path: JSON file of the curve; a run that goes on adds to it.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        images: ImageSet,
        *,
        count: int,
        timesteps: int,
        points: int,
        path: Path,
    ) -> None:
        super().__init__()
        self._network, self._images, self._path = network, images, path
        self._indices = np.arange(min(count, len(images)))
        self._due = np.linspace(0, timesteps, points + 1) if points else np.zeros(0)
        self._curve: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        if self.num_timesteps > 0 and self._path.is_file():
            # What came after the checkpoint that an interrupted run goes on from comes again.
            points = read_json(self._path)["curve"]
            self._curve = [point for point in points if point["steps"] <= self.num_timesteps]
        self._evaluate()

    def _on_step(self) -> bool:
        self._evaluate()
        return True

    def _evaluate(self) -> None:
        """Add a point, if the next one is due."""
        done = len(self._curve)
        if done == len(self._due) or self.num_timesteps < self._due[done]:
            return
        # Building the policy's modules draws weights, which are then replaced.
        with torch.random.fork_rng(devices=[]):
            policy = learned_policy(self.model).to(self._network.device)
        record = evaluate_policy(self._network, policy, self._images, indices=self._indices)
        point = {
            "steps": self.num_timesteps,
            "accuracy": record.accuracy.round(6).tolist(),
            "label_confidence": record.label_confidence.mean(axis=0, dtype=float).tolist(),
        }
        self._curve.append(point)
        write_json(self._path, {"images": len(self._indices), "curve": self._curve})
        for step, accuracy in enumerate(point["accuracy"]):
            self.logger.record(f"evaluation/accuracy_{step}", accuracy)
