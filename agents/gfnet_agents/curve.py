"""The learning curve: what a policy is worth while it is learned."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from gfnet_agents.learners import Learner
from gfnet_env.benchmarks.results import Result
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.files import read_json, write_json
from gfnet_env.images import ImageSet
from gfnet_env.models import Model

CURVE_FILE = "curve.json"


@dataclass(frozen=True)
class LearningPoint(Result):
    """What a policy was worth at some time.

    Attributes:
        steps: Environment steps that it was learned from.
        accuracy: After each step, glance first, (T,).
        label_confidence: Mean probability of the true class after each step, (T,).
    """

    steps: int
    accuracy: tuple[float, ...]
    label_confidence: tuple[float, ...]


@dataclass(frozen=True)
class Curve(Result):
    """What a policy was worth while it was learned.

    Attributes:
        images: How many images it was evaluated on.
        curve: By rising ``steps``.
    """

    images: int
    curve: tuple[LearningPoint, ...] = ()

    @classmethod
    def load(cls, run: Path) -> Self:
        """The curve of a run of ``train_policy``.

        Raises:
            FileNotFoundError: It has none.
        """
        return cls.from_json(read_json(run / CURVE_FILE))


class LearningCurve:
    """Evaluates what was learned so far on some images, evenly over the environment steps.

    It draws no random number, so a policy is learned the same with and without it.

    Args:
        model: What sees.
        images: To evaluate on; not what is learned from.
        learner: Whose policy is evaluated.
        run: Folder for ``curve.json``; a run that goes on adds to it.
        count: How many of the images, the first ones.
        timesteps: Environment steps that will be taken.
        points: Evaluations after the first, which comes before anything is learned; with 0 there
            is none at all.
        writer: For TensorBoard.
    """

    def __init__(
        self,
        model: Model,
        images: ImageSet,
        learner: Learner,
        run: Path,
        *,
        count: int,
        timesteps: int,
        points: int,
        writer: SummaryWriter,
    ) -> None:
        self._model, self._images, self._learner, self._run = model, images, learner, run
        self._writer = writer
        self._indices = np.arange(min(count, len(images)))
        self._due = np.linspace(0, timesteps, points + 1) if points else np.zeros(0)
        self._curve = Curve(len(self._indices))
        if learner.steps > 0 and (run / CURVE_FILE).is_file():
            # What came after the checkpoint that an interrupted run goes on from comes again.
            kept = (each for each in Curve.load(run).curve if each.steps <= learner.steps)
            self._curve = dataclasses.replace(self._curve, curve=tuple(kept))

    def evaluate_if_due(self) -> None:
        """Add a point, if the next one is due."""
        steps, curve = self._learner.steps, self._curve.curve
        if len(curve) == len(self._due) or steps < self._due[len(curve)]:
            return
        if curve and curve[-1].steps == steps:
            return
        # Building the policy's modules draws weights, which are then replaced.
        with torch.random.fork_rng(devices=[]):
            policy = self._learner.policy()
        if isinstance(policy, torch.nn.Module):
            policy.to(self._model.device)
        record = evaluate_policy(self._model, policy, self._images, indices=self._indices)
        confidence = record.label_confidence.mean(axis=0, dtype=float)
        accuracy = record.accuracy.round(6)
        point = LearningPoint(steps, tuple(accuracy.tolist()), tuple(confidence.tolist()))
        self._curve = dataclasses.replace(self._curve, curve=(*curve, point))
        write_json(self._run / CURVE_FILE, self._curve.to_json())
        for step, value in enumerate(point.accuracy):
            self._writer.add_scalar(f"evaluation/accuracy_{step}", value, steps)
