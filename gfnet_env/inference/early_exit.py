"""The assembled network: glance, focus while unsure, exit."""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env import files
from gfnet_env.data import ImageSet, batches
from gfnet_env.inference.budgets import (
    Method,
    OperatingPoint,
    choose_operating_point,
    point_within,
    solve_budgets,
)
from gfnet_env.inference.cost import (
    policy_multiply_adds,
    start_multiply_adds,
    step_multiply_adds,
)
from gfnet_env.inference.evaluation import advance, evaluate_policy, unroll
from gfnet_env.inference.latency import median_seconds, synchronise
from gfnet_env.inference.thresholds import NEVER
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies.base import Policy, Scene, initial_state, select_rows
from gfnet_env.policies.learned import LearnedPolicy
from gfnet_env.policies.recurrent import RecurrentPolicy
from gfnet_env.policies.storage import check_saveable, load_policy, save_policy

_NAME = "gfnet"


@dataclass(frozen=True)
class Prediction:
    """What came out for B images.

    Attributes:
        classes: The most confident class at the exit, (B,) int64.
        confidence: Its probability, (B,) float32.
        exit_step: Focus steps taken, (B,) int64 in [0, T - 1].
        locations: Where each image was looked at, (B, T - 1, 2) in [-1, 1]; NaN where a step was
            not taken.
        multiply_adds: What each image cost, (B,) int64.
    """

    classes: Tensor
    confidence: Tensor
    exit_step: Tensor
    locations: Tensor
    multiply_adds: Tensor

    def select(self, rows: Tensor | slice) -> "Prediction":
        """What came out for some of the images."""
        return Prediction(*(getattr(self, item.name)[rows] for item in dataclasses.fields(self)))


@dataclass(frozen=True)
class AnytimePrediction:
    """What is known of B images after some step, whatever the thresholds.

    Attributes:
        logits: (B, K).
        classes: The most confident class, (B,) int64.
        confidence: Its probability, (B,) float32.
        locations: Where each image was looked at so far, (B, S, 2) in [-1, 1] after S focus steps.
    """

    logits: Tensor
    classes: Tensor
    confidence: Tensor
    locations: Tensor


class EarlyExitGFNet(nn.Module):
    """A network, a policy, and one confidence threshold per step.

    ``calibrate`` solves thresholds for a table of budgets once; ``set_budget`` then changes what an
    image may cost from one batch to the next.

    Args:
        network: What sees.
        policy: Who picks the patches: any ``Policy``, a user's own ``nn.Module`` included.
        thresholds: One per step, T of them; None never exits before the last step.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        policy: Policy,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.policy = policy
        steps = 1 + network.focus_steps
        self.set_thresholds([NEVER] * steps if thresholds is None else thresholds)
        # Counted before anyone hooks the encoders, since counting calls them.
        self._step_costs = step_multiply_adds(network)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "network" and "network" in self._modules:
            raise AttributeError(
                "costs, budgets and thresholds are those of its network: make a new EarlyExitGFNet "
                "of another one"
            )
        if name == "policy":
            # A module may give way to a plain callable, which torch alone would refuse.
            self._modules.pop(name, None)
            self._policy_costs: tuple[int, int] | None = None
            # Solved or measured for the policy that goes.
            self._budgets: tuple[OperatingPoint, ...] = ()
            self._milliseconds: tuple[float, ...] | None = None
        super().__setattr__(name, value)
        if name in ("network", "policy") and isinstance(value, nn.Module):
            value.eval()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Confidence at which an image exits, one per step; the last step always exits."""
        return self._thresholds

    def set_thresholds(self, thresholds: Sequence[float]) -> None:
        """Set the confidences at which images exit: 0 exits all, above 1 none.

        Raises:
            ValueError: There are not T of them, or one is negative or not finite.
        """
        self._thresholds = self._checked(thresholds)

    def _checked(self, thresholds: Sequence[float]) -> tuple[float, ...]:
        values = tuple(float(value) for value in thresholds)
        steps = 1 + self.network.focus_steps
        if len(values) != steps:
            raise ValueError(f"{steps} thresholds are needed, one per step, not {len(values)}")
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"thresholds must be finite and at least 0, not {list(values)}")
        return values

    @property
    def multiply_adds(self) -> list[int]:
        """Multiply-adds of one image that exits at each step, T numbers."""
        if self._policy_costs is None:
            self._policy_costs = (
                start_multiply_adds(self.policy, self.network),
                policy_multiply_adds(self.policy, self.network),
            )
        start, pick = self._policy_costs
        glance, *focus = self._step_costs
        return list(itertools.accumulate([glance + start, *(cost + pick for cost in focus)]))

    @property
    def budgets(self) -> tuple[OperatingPoint, ...]:
        """What ``calibrate`` solved, by rising cost; none before that."""
        return self._budgets

    def calibrate(
        self, images: ImageSet, method: Method = "geometric"
    ) -> tuple[OperatingPoint, ...]:
        """Solve thresholds for mean costs all over the range; they are saved with the network.

        Args:
            images: A split that neither the network nor the policy was trained on.
            method: See ``solve_budgets``.
        """
        record = evaluate_policy(self.network, self.policy, images)
        self._budgets = tuple(solve_budgets(record, self.multiply_adds, method))
        return self._budgets

    def measure_latency(self, images: Tensor, repeats: int = 5) -> tuple[float, ...]:
        """Time, on this device, an exit at each step: budgets in milliseconds go by it.

        Args:
            images: (B, 3, H, W) uint8, of the size and in batches as they will come.
            repeats: Times each exit is timed; the median counts.

        Returns:
            Milliseconds per image, T numbers.

        Raises:
            ValueError: There are no images, or ``repeats`` is below 1.
        """
        if len(images) == 0:
            raise ValueError("there is nothing to time; give a batch of at least one image")
        before = self.thresholds
        steps = len(before)
        try:
            medians = []
            for last in range(steps):
                self.set_thresholds([NEVER] * last + [0.0] * (steps - last))
                medians.append(median_seconds(lambda: self(images), self.network.device, repeats))
        finally:
            self.set_thresholds(before)
        self._timed_on = self.network.device
        self._milliseconds = tuple(1e3 * seconds / len(images) for seconds in medians)
        return self._milliseconds

    def set_budget(
        self, *, multiply_adds: float | None = None, milliseconds: float | None = None
    ) -> OperatingPoint:
        """Set thresholds for a mean cost.

        A budget is spent as far as the table goes: with geometric exits to all steps of all images,
        with searched ones to where more would have bought nothing on the calibration split.

        Args:
            multiply_adds: What an image may cost on average.
            milliseconds: The same in time, where ``measure_latency`` has been called. Mean times
                are taken to be those of the exits, each in its share; where a batch takes as long
                when images have left it, a budget is exceeded.

        Returns:
            The operating point. Between two of the table its cost and accuracy are interpolated
            from what those gave on the calibration split.

        Raises:
            RuntimeError: The network was not calibrated, or no latency measured.
            ValueError: Not one budget was given, or the glance alone costs more.
        """
        if (multiply_adds is None) == (milliseconds is None):
            raise ValueError("give a budget either in multiply_adds or in milliseconds")
        if not self._budgets:
            raise RuntimeError("there is no table of budgets; call calibrate(images) first")
        if milliseconds is None:
            budget, shown = multiply_adds, "{:,.0f} multiply-adds"
            costs = [point.multiply_adds for point in self._budgets]
        else:
            if self._milliseconds is None or self._timed_on != self.network.device:
                raise RuntimeError(
                    f"no latency is known on {self.network.device}; call measure_latency(images) "
                    "first"
                )
            budget, shown = milliseconds, "{:.3f} milliseconds"
            costs = [float(np.dot(p.exit_share, self._milliseconds)) for p in self._budgets]
        assert budget is not None
        if not budget >= costs[0]:
            raise ValueError(
                f"no thresholds meet a budget of {shown.format(budget)}: the glance alone costs "
                f"{shown.format(costs[0])}"
            )
        point = point_within(self._budgets, costs, budget)
        self.set_thresholds(point.thresholds)
        return point

    def anytime(
        self, images: Tensor, deadline: float | None = None, *, normalised: bool = False
    ) -> Iterator[AnytimePrediction]:
        """Yield what is known after every step, whatever the thresholds: stop when you like.

        Args:
            images: (B, 3, H, W) uint8.
            deadline: Seconds from this call on; no step is begun that would end later if it took
                as long as the longest one so far. The glance is always given.
            normalised: Whether ``images`` are floats instead, normalised as the encoders expect.

        Raises:
            ValueError: The deadline is negative or NaN.
        """
        if deadline is not None and not deadline >= 0:
            raise ValueError(f"deadline must be at least 0 seconds, not {deadline}")
        end = math.inf if deadline is None else time.perf_counter() + deadline
        return self._anytime(images.to(self.network.device), end, normalised)

    @torch.no_grad()
    def _anytime(self, images: Tensor, end: float, normalised: bool) -> Iterator[AnytimePrediction]:
        state = initial_state(self.policy, Scene(self.network, images, np.arange(len(images))))
        looked = torch.empty(len(images), 0, 2, device=images.device)
        longest, started = 0.0, time.perf_counter()
        steps = unroll(self.network, self.policy, images, state, normalised)
        for number, step in enumerate(steps):
            if number > 0:
                looked = torch.cat([looked, step.location[:, None]], dim=1)
            prediction = AnytimePrediction(step.logits, step.classes, step.confidence, looked)
            if math.isfinite(end):
                # The step must be done, and not only begun, when the clock is read.
                synchronise(self.network.device)
            longest = max(longest, time.perf_counter() - started)
            yield prediction
            started = time.perf_counter()
            if started + longest > end:
                return

    @torch.no_grad()
    def forward(self, images: Tensor, *, normalised: bool = False) -> Prediction:
        """Classify images; each leaves the batch as soon as it is confident enough.

        Args:
            images: (B, 3, H, W) uint8.
            normalised: Whether ``images`` are floats instead, normalised as the encoders expect.
        """
        images = images.to(self.network.device)
        count, device = len(images), images.device
        costs = torch.tensor(self.multiply_adds, device=device)
        classes = torch.zeros(count, dtype=torch.int64, device=device)
        confidence = torch.zeros(count, device=device)
        exit_step = torch.zeros(count, dtype=torch.int64, device=device)
        locations = torch.full((count, self.network.focus_steps, 2), torch.nan, device=device)

        rows = torch.arange(count, device=device)
        step = self.network.glance(images, normalised)
        # Begun before any image leaves, so that a state can tell the images apart.
        scene = Scene(self.network, images, np.arange(count))
        state = initial_state(self.policy, scene)
        for number, threshold in enumerate(self.thresholds):
            if number > 0:
                step, state = advance(
                    self.network, self.policy, images, step, state, rows, normalised
                )
                locations[rows, number - 1] = step.location
            sure = step.confidence >= threshold
            if number == self.network.focus_steps:
                sure = torch.ones_like(sure)
            leaving = rows[sure]
            classes[leaving] = step.classes[sure]
            confidence[leaving] = step.confidence[sure]
            exit_step[leaving] = number
            if bool(sure.all()):
                break
            rows, step, state = rows[~sure], step.select(~sure), select_rows(state, ~sure)
        return Prediction(classes, confidence, exit_step, locations, costs[exit_step])

    def save(self, folder: str | Path) -> None:
        """Write the network, the policy and the thresholds into a folder.

        Raises:
            ValueError: The policy is a user's own, which only its user can save.
        """
        check_saveable(self.policy)
        self.network.save(folder)
        save_policy(self.policy, Path(folder))
        saved = {
            "thresholds": list(self.thresholds),
            "budgets": [dataclasses.asdict(point) for point in self.budgets],
        }
        files.write_json(Path(folder) / f"{_NAME}.json", saved)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote, or a run folder of ``train_policy``, onto the CPU.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged, or the parts do not fit each other.
        """
        folder = Path(folder)
        saved = files.load_config(folder, _NAME)
        network, policy = GlanceFocusNetwork.load(folder), load_policy(folder)
        if isinstance(policy, LearnedPolicy | RecurrentPolicy):
            policy.check_fit(network)
        if "thresholds" not in saved:
            raise ValueError(f"{folder / _NAME}.json has no thresholds; restore it from a copy")
        gfnet = cls(network, policy)
        try:
            gfnet.set_thresholds(saved["thresholds"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the thresholds in {folder / _NAME}.json are damaged: {error}; restore it from a "
                "copy"
            ) from error
        try:
            budgets = tuple(map(OperatingPoint.from_json, saved.get("budgets", ())))
            for point in budgets:
                gfnet._checked(point.thresholds)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the budgets in {folder / _NAME}.json are damaged: {error}; restore it from a "
                "copy, or leave them out and calibrate again"
            ) from error
        gfnet._budgets = budgets
        return gfnet


def assemble(network: GlanceFocusNetwork, policy: Policy, images: ImageSet) -> EarlyExitGFNet:
    """Network and policy with thresholds solved on a split that neither was trained on.

    The thresholds are those of ``choose_operating_point``; the table of budgets goes with them.
    """
    gfnet = EarlyExitGFNet(network, policy)
    gfnet.set_thresholds(choose_operating_point(gfnet.calibrate(images)).thresholds)
    return gfnet


def classify(gfnet: EarlyExitGFNet, images: ImageSet, batch_size: int = 256) -> Prediction:
    """The predictions for a whole set."""
    device = gfnet.network.device
    parts = [gfnet(batch.pixels) for batch in batches(images, batch_size, device=device)]
    names = [item.name for item in dataclasses.fields(Prediction)]
    return Prediction(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
