"""The learning curve: the accuracy of a policy during learning."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from gfnet_agents.learners import Learner
from gfnet_env.benchmarks.results import Result
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import FeatureOptions
from gfnet_env.files import write_json
from gfnet_env.images import ImageSet
from gfnet_env.logs import RunLog
from gfnet_env.models import Model
from gfnet_env.policies import Policy
from gfnet_env.training import OnValidation

CURVE_FILE = "curve.json"


@dataclass(frozen=True)
class LearningPoint(Result):
    """Evaluation of a policy after ``steps`` environment steps.

    ``accuracy`` and ``label_confidence`` (the mean probability of the true class) hold one value
    per step of the model, glance first, (T,).
    """

    steps: int
    accuracy: tuple[float, ...]
    label_confidence: tuple[float, ...]


@dataclass(frozen=True)
class Curve(Result):
    """The points of a learning curve by rising ``steps``, on ``images`` (their number)."""

    images: int
    curve: tuple[LearningPoint, ...] = ()

    @classmethod
    def load(cls, run: Path) -> Self:
        """The curve of a run of ``train_policy``.

        Raises:
            FileNotFoundError: The run has no curve.
            ValueError: It is damaged.
        """
        return cls.read(run / CURVE_FILE)


@dataclass
class LearningCurve:
    """Evaluates the current policy at even intervals of environment steps.

    It draws no random numbers, so learning is the same with and without it.

    Attributes:
        model: The model that looks.
        images: Images to evaluate on; other images than the policy learns from.
        learner: The learner whose policy is evaluated.
        run: Folder for ``curve.json``; a resumed run adds to the file.
        log: The log of the run.
        count: Number of images to use, from the first.
        timesteps: Total number of environment steps.
        points: Number of evaluations after the first one, which precedes learning; 0 for none at
            all.
        on_validation: Called at each point, see ``OnValidation``.
    """

    model: Model
    images: ImageSet
    learner: Learner
    run: Path
    log: RunLog
    _: KW_ONLY
    count: int
    timesteps: int
    points: int
    on_validation: OnValidation | None = None

    def __post_init__(self) -> None:
        self.count = min(self.count, len(self.images))
        due = np.linspace(0, self.timesteps, self.points + 1)
        self._due = due if self.points else due[:0]
        self._curve: tuple[LearningPoint, ...] = ()
        self._features = FeatureOptions().live(self.model, self.images)
        if self.learner.steps > 0 and (self.run / CURVE_FILE).is_file():
            # Points after the checkpoint that an interrupted run resumes from are computed again.
            before = Curve.load(self.run).curve
            self._curve = tuple(each for each in before if each.steps <= self.learner.steps)

    def evaluate_if_due(self) -> None:
        """Add a point if the next one is due."""
        steps, curve = self.learner.steps, self._curve
        if len(curve) == len(self._due) or steps < self._due[len(curve)]:
            return
        if curve and curve[-1].steps == steps:
            return
        policy = policy_of(self.learner, self.model.device)
        record = evaluate_policy(
            self.model,
            policy,
            self.images,
            indices=np.arange(self.count),
            features=self._features,
        )
        confidence = record.label_confidence.mean(axis=0, dtype=float)
        accuracy = record.accuracy.round(6)
        point = LearningPoint(steps, tuple(accuracy.tolist()), tuple(confidence.tolist()))
        self._curve = (*curve, point)
        write_json(self.run / CURVE_FILE, Curve(self.count, self._curve).to_json())
        for step, value in enumerate(point.accuracy):
            self.log.add_scalar(f"evaluation/accuracy_{step}", value, steps)
        if self.on_validation is not None:
            self.on_validation(steps, point.accuracy[-1])


def policy_of(learner: Learner, device: torch.device) -> Policy:
    """The current policy of a learner, on a device; draws no random numbers."""
    # Building the policy's modules draws random weights, which are then replaced.
    with torch.random.fork_rng(devices=[]):
        policy = learner.policy()
    return policy.to(device) if isinstance(policy, nn.Module) else policy
