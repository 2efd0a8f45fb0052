"""The assembled network: glance, look while unsure, exit."""

import itertools
import math
import numbers
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gfnet_env import rows
from gfnet_env.arrays import as_array
from gfnet_env.exits import Signal, ThresholdExit, certainty_of, confidence
from gfnet_env.exits.thresholds import NEVER
from gfnet_env.features import LiveFeatures
from gfnet_env.hub import Shareable
from gfnet_env.images import ArrayImages, ImageSet, as_image_set, batches
from gfnet_env.images.base import Indices
from gfnet_env.inference import storage
from gfnet_env.inference.budgets import BudgetTable, LatencyTable, OperatingPoint
from gfnet_env.matching import open_pictures
from gfnet_env.models import (
    Model,
    count_multiply_adds,
    policy_multiply_adds,
    start_multiply_adds,
)
from gfnet_env.models.base import Beliefs, blank_state, check_model
from gfnet_env.paths import user_path
from gfnet_env.policies.base import Context, Policy, check_policy
from gfnet_env.rollout import Step, rollout
from gfnet_env.settings import AtLeast, checked
from gfnet_env.timing import synchronise

Pixels = Tensor | npt.NDArray[np.uint8] | ImageSet | Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class Answers(Beliefs):
    """The latest answers for B images, and the looks that led to them.

    Attributes:
        logits: (B, K) float32.
        certainty: What thresholds were held against, (B,) in [0, 1].
        exit_step: Looks taken, (B,) int64 in [0, T - 1].
        locations: Locations of the looks, (B, T - 1, 2) in [-1, 1]; NaN if no look was taken.
        scales: Scales of the looks, (B, T - 1), at least 1; NaN if no look was taken.
    """

    logits: Tensor
    certainty: Tensor
    exit_step: Tensor
    locations: Tensor
    scales: Tensor

    @classmethod
    def blank(cls, model: Model, count: int) -> Self:
        """The answers before the glance."""
        looks = model.focus_steps
        certainty = torch.zeros(count, dtype=torch.float32, device=model.device)
        return cls(
            logits=certainty.new_zeros(count, model.num_classes),
            certainty=certainty,
            exit_step=torch.zeros(count, dtype=torch.int64, device=model.device),
            locations=certainty.new_full((count, looks, 2), torch.nan),
            scales=certainty.new_full((count, looks), torch.nan),
        )

    def update(self, number: int, step: Step, certainty: Signal = confidence) -> None:
        """Write the results of a step of a rollout in place; ``number`` 0 is the glance."""
        looked, state = step.rows, step.state
        self.logits[looked] = state.logits.float()
        self.certainty[looked] = certainty_of(certainty, state)
        self.exit_step[looked] = number
        if number > 0:
            self.locations[looked, number - 1] = state.location
            self.scales[looked, number - 1] = state.scale


@dataclass(frozen=True, kw_only=True)
class Prediction(Answers):
    """The answers for B images and their cost; ``rows`` selects and concatenates predictions.

    Attributes:
        multiply_adds: Cost of each image, (B,) int64, including a policy's decision to stop.
    """

    multiply_adds: Tensor


class EarlyExitGFNet(Shareable, nn.Module):
    """A model, a policy, and one threshold per step on how sure it is, for inference only.

    Args:
        model: The model.
        policy: Decides where to look: any ``Policy``, including a user's own ``nn.Module``.
        thresholds: One per step, T of them; with None, no image exits before the last step.
        certainty: What thresholds are held against: an ``ExpectedGain``, or by default the
            confidence.

    Attributes:
        model: The model; it cannot be set.
        policy: The policy; setting another one removes budgets and latencies.
        certainty: What thresholds are held against; so does setting another one.
        budgets: What ``calibrate`` solved, or None.
        latency: What ``measure_latency`` measured, or None.
    """

    budgets: BudgetTable | None
    latency: LatencyTable | None

    def __init__(
        self,
        model: Model,
        policy: Policy,
        thresholds: Sequence[float] | None = None,
        certainty: Signal = confidence,
    ) -> None:
        super().__init__()
        check_model(model)
        self.model = model
        self.policy = policy
        self.certainty = certainty
        self.set_thresholds([NEVER] * (1 + model.focus_steps) if thresholds is None else thresholds)
        # Counted before a caller adds hooks to the encoders, since counting calls them.
        self._step_costs = model.multiply_adds()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "model" and hasattr(self, "model"):
            raise AttributeError(
                "costs, budgets and thresholds belong to its model: make a new EarlyExitGFNet "
                "for another model"
            )
        if name == "policy":
            check_policy(value)
        if name == "certainty" and not callable(value):
            raise TypeError(
                f"a certainty must be a function of a state, such as gfnet_env.exits.confidence, "
                f"not {value!r}"
            )
        if name == "policy" and hasattr(value, "check_fit"):
            value.check_fit(self.model)
        if name in ("policy", "certainty"):
            # torch alone refuses a plain callable in place of a module.
            self._modules.pop(name, None)
            self._counted: tuple[int, int, int] | None = None
            self.budgets = self.latency = None
        super().__setattr__(name, value)
        if name in ("model", "policy", "certainty") and isinstance(value, nn.Module):
            value.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode regardless of ``mode``."""
        return super().train(False)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Certainty at which an image exits, one per step; the last step always exits."""
        return self._thresholds

    def set_thresholds(self, thresholds: Sequence[float]) -> None:
        """Set the certainties at which images exit: with 0 all images exit, above 1 none.

        Raises:
            ValueError: There are not T thresholds, or one is negative or not finite.
        """
        steps = 1 + self.model.focus_steps
        values = ThresholdExit(thresholds).thresholds
        if len(values) != steps:
            raise ValueError(f"{steps} thresholds are needed, one per step, not {len(values)}")
        self._thresholds = values

    @property
    def multiply_adds(self) -> list[int]:
        """Multiply-adds of one image that exits at each step, T numbers."""
        start, decision, certainty = self._other_costs()
        glance, *looks = (cost + certainty for cost in self._step_costs)
        return list(itertools.accumulate([glance + start, *(cost + decision for cost in looks)]))

    @property
    def stop_multiply_adds(self) -> int:
        """Multiply-adds that the decision to stop adds to the cost of an exit."""
        return self._other_costs()[1]

    def _other_costs(self) -> tuple[int, int, int]:
        """Multiply-adds for one image of all but the model.

        They are the policy's before its first decision, its per decision, and those of the
        certainty per step.
        """
        if self._counted is None:
            self._counted = (
                start_multiply_adds(self.policy, self.model),
                policy_multiply_adds(self.policy, self.model),
                count_multiply_adds(self.certainty, blank_state(self.model)),
            )
        return self._counted

    def set_budget(
        self, *, multiply_adds: float | None = None, milliseconds: float | None = None
    ) -> OperatingPoint:
        """Set the thresholds for a mean cost from the table of ``calibrate``.

        A budget above the last one of the table is not spent in full: with geometric exits, the
        last point already takes all steps of all images; with searched exits, spending more gained
        nothing on the calibration split.

        Args:
            multiply_adds: What an image may cost on average.
            milliseconds: The same as a time, after ``measure_latency``. We assume that an image
                takes the measured time of its exit. If a batch does not get faster when images
                leave it, it exceeds the budget.

        Returns:
            The operating point; its cost and accuracy are interpolated between points of the table.

        Raises:
            RuntimeError: The network is not calibrated, or no latency was measured on its device.
            ValueError: There is not exactly one budget, or the glance alone costs more.
        """
        if (multiply_adds is None) == (milliseconds is None):
            raise ValueError("give a budget either in multiply_adds or in milliseconds")
        multiply_adds = _number("multiply_adds", multiply_adds)
        milliseconds = _number("milliseconds", milliseconds)
        if self.budgets is None:
            raise RuntimeError("there is no table of budgets; call calibrate(gfnet, images) first")
        if multiply_adds is not None:
            point = self.budgets.within(multiply_adds)
        elif self.latency is None or self.latency.device != self.model.device:
            raise RuntimeError(
                f"no latency is known on {self.model.device}; call measure_latency(gfnet, images) "
                "first"
            )
        else:
            assert milliseconds is not None
            point = self.budgets.within_time(milliseconds, self.latency)
        self.set_thresholds(point.thresholds)
        return point

    @torch.no_grad()
    def forward(
        self, images: Pixels, indices: Indices | None = None, *, normalised: bool = False
    ) -> Prediction:
        """Classify images in one batch; each leaves it as soon as the network is confident enough.

        Args:
            images: (N, 3, H, W) uint8, a tensor or an array; an image set; or paths of pictures,
                which are brought to the size of those that the network was trained on.
            indices: Which of them, (B,), or None for all.
            normalised: Whether a tensor holds floats instead, normalised as the encoders expect.
        """
        context = self._context(images, indices, normalised)
        answers = Answers.blank(self.model, len(context.indices))
        rule = ThresholdExit(self._thresholds, self.certainty)
        for number, step in enumerate(rollout(context.features, self.policy, context, rule)):
            answers.update(number, step, self.certainty)
        return self._prediction(answers, self._thresholds, self.model.focus_steps)

    def classify(
        self, images: Pixels, indices: Indices | None = None, batch_size: int = 256
    ) -> Prediction:
        """``forward`` batch by batch."""
        checked("batch_size", batch_size, Annotated[int, AtLeast(1)])
        opened = self._open(images)
        order = _numbers(opened, indices)
        if len(order) <= batch_size:
            return self(opened, order)
        parts = batches(opened, batch_size, order, self.model.device)
        return rows.concatenate([self(opened, batch.indices) for batch in parts])

    def anytime(
        self,
        images: Pixels,
        indices: Indices | None = None,
        *,
        deadline: float | None = None,
        normalised: bool = False,
    ) -> Iterator[Prediction]:
        """Yield the answers for a batch after every step, ignoring thresholds; stop at any time.

        Args:
            images: See ``forward``.
            indices: See ``forward``.
            deadline: Seconds from this call on. A step begins only if it would end in time,
                assuming that it takes as long as the longest step so far. The answer of the glance
                is always given.
            normalised: See ``forward``.

        Raises:
            ValueError: The deadline is negative or NaN.
        """
        deadline = _number("deadline", deadline)
        if deadline is not None and not deadline >= 0:
            raise ValueError(f"deadline must be at least 0 seconds, not {deadline}")
        end = math.inf if deadline is None else time.perf_counter() + deadline
        return self._anytime(self._context(images, indices, normalised), end)

    @torch.no_grad()
    def _anytime(self, context: Context, end: float) -> Iterator[Prediction]:
        answers = Answers.blank(self.model, len(context.indices))
        never = [NEVER] * len(self._thresholds)
        longest, started = 0.0, time.perf_counter()
        for number, step in enumerate(rollout(context.features, self.policy, context)):
            answers.update(number, step, self.certainty)
            prediction = self._prediction(answers, never, number)
            if math.isfinite(end):
                # The device must have finished the step before the clock is read.
                synchronise(self.model.device)
            longest = max(longest, time.perf_counter() - started)
            # Copied, because later steps write into the answers.
            yield rows.map_tensors(torch.clone, prediction)
            started = time.perf_counter()
            if started + longest > end:
                return

    def _context(self, images: Pixels, indices: Indices | None, normalised: bool) -> Context:
        opened = self._open(images, normalised)
        return Context(LiveFeatures(self.model, opened), _numbers(opened, indices))

    def _open(self, images: Any, normalised: bool = False) -> ImageSet:
        if isinstance(images, ImageSet | Dataset):
            return as_image_set(images)
        # One without data stays where it is, and is refused.
        if isinstance(images, Tensor) and not images.is_meta:
            return ArrayImages(images.to(self.model.device), normalised=normalised)
        is_list = isinstance(images, list | tuple)
        if is_list and all(isinstance(each, str | Path) for each in images):
            return open_pictures([user_path(each) for each in images], self.model)
        return ArrayImages(images, normalised=normalised)

    def _prediction(self, answers: Answers, thresholds: Sequence[float], last: int) -> Prediction:
        """The prediction after step ``last`` of a rollout, under thresholds."""
        exits = answers.exit_step
        wanted = torch.tensor(thresholds, device=exits.device)[exits]
        # Images that exited early without being sure were stopped by the policy.
        stopped = (exits < last) & (answers.certainty < wanted)
        costs = torch.tensor(self.multiply_adds, device=exits.device)[exits]
        costs += self.stop_multiply_adds * stopped
        return Prediction(**vars(answers), multiply_adds=costs)

    def save(self, folder: str | Path) -> None:
        """Write the model, policy, exits and budgets into a folder, all of them or nothing.

        Raises:
            ValueError: The model, the policy or the certainty cannot be saved, or a value cannot
                be written as JSON.
        """
        storage.save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote, or a run folder of ``train_policy``, onto the CPU.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged or belongs to another save, or the parts do not fit
                together.
        """
        return storage.load(cls, folder)


def _number(name: str, value: Any) -> float | None:
    """A number as float, or None."""
    if not isinstance(value, numbers.Real | None):
        raise ValueError(f"{name} must be a number, not {value!r}")
    try:
        return None if value is None else float(value)
    except OverflowError:
        raise ValueError(f"{name} is beyond all floats: {value}") from None


def _numbers(images: ImageSet, indices: Indices | None) -> npt.NDArray[np.int64]:
    if indices is None or isinstance(indices, slice):
        return np.arange(len(images))[indices or slice(None)]
    return np.atleast_1d(as_array(indices, "indices"))
