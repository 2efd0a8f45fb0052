"""The learning curve: how good a policy is while it is learned."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from gfnet_agents.learners import Learner
from gfnet_env.benchmarks.results import Result
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.files import read_json, write_json
from gfnet_env.images import ImageSet
from gfnet_env.models import Model
from gfnet_env.policies import Policy

CURVE_FILE = "curve.json"


@dataclass(frozen=True)
class LearningPoint(Result):
    """How good a policy was after ``steps`` environment steps.

    ``accuracy`` and ``label_confidence``, the mean probability of the true class, are per step of
    the model, glance first, (T,).
    """

    steps: int
    accuracy: tuple[float, ...]
    label_confidence: tuple[float, ...]


@dataclass(frozen=True)
class Curve(Result):
    """How good a policy was while it was learned, by rising ``steps``, on so many ``images``."""

    images: int
    curve: tuple[LearningPoint, ...] = ()

    @classmethod
    def load(cls, run: Path) -> Self:
        """The curve of a run of ``train_policy``.

        Raises:
            FileNotFoundError: It has none.
        """
        return cls.from_json(read_json(run / CURVE_FILE))


@dataclass
class LearningCurve:
    """Evaluates what was learned so far, evenly over the environment steps.

    It draws no random number, so the same is learned with and without it.

    Attributes:
        model: What looks.
        images: To evaluate on; not what is learned from.
        learner: Whose policy is evaluated.
        run: Folder for ``curve.json``; a run that goes on adds to it.
        writer: For TensorBoard.
        count: How many of the images, the first ones.
        timesteps: Environment steps in all.
        points: Evaluations after the first, which precedes learning; 0 for none at all.
    """

    model: Model
    images: ImageSet
    learner: Learner
    run: Path
    writer: SummaryWriter
    _: KW_ONLY
    count: int
    timesteps: int
    points: int

    def __post_init__(self) -> None:
        self.count = min(self.count, len(self.images))
        due = np.linspace(0, self.timesteps, self.points + 1)
        self._due = due if self.points else due[:0]
        self._curve: tuple[LearningPoint, ...] = ()
        if self.learner.steps > 0 and (self.run / CURVE_FILE).is_file():
            # What came after the checkpoint that an interrupted run goes on from comes again.
            before = Curve.load(self.run).curve
            self._curve = tuple(each for each in before if each.steps <= self.learner.steps)

    def evaluate_if_due(self) -> None:
        """Add a point, if the next one is due."""
        steps, curve = self.learner.steps, self._curve
        if len(curve) == len(self._due) or steps < self._due[len(curve)]:
            return
        if curve and curve[-1].steps == steps:
            return
        policy = policy_of(self.learner, self.model.device)
        record = evaluate_policy(self.model, policy, self.images, indices=np.arange(self.count))
        confidence = record.label_confidence.mean(axis=0, dtype=float)
        accuracy = record.accuracy.round(6)
        point = LearningPoint(steps, tuple(accuracy.tolist()), tuple(confidence.tolist()))
        self._curve = (*curve, point)
        write_json(self.run / CURVE_FILE, Curve(self.count, self._curve).to_json())
        for step, value in enumerate(point.accuracy):
            self.writer.add_scalar(f"evaluation/accuracy_{step}", value, steps)


def policy_of(learner: Learner, device: torch.device) -> Policy:
    """What a learner has learned so far, on a device; draws no random number."""
    # Building the policy's modules draws weights, which are then replaced.
    with torch.random.fork_rng(devices=[]):
        policy = learner.policy()
    return policy.to(device) if isinstance(policy, nn.Module) else policy
