"""The assembled network: glance, focus while unsure, exit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gfnet_env import files
from gfnet_env.inference.cost import policy_multiply_adds, step_multiply_adds
from gfnet_env.inference.evaluation import advance
from gfnet_env.inference.thresholds import NEVER
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies.base import Policy, Scene, initial_state, select_rows
from gfnet_env.policies.learned import LearnedPolicy
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


class EarlyExitGFNet(nn.Module):
    """A network, a policy, and one confidence threshold per step.

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
        self._step_cost = step_multiply_adds(network)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "policy":
            # A module may give way to a plain callable, which torch alone would refuse.
            self._modules.pop(name, None)
            self._policy_cost: int | None = None
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
        values = tuple(float(value) for value in thresholds)
        steps = 1 + self.network.focus_steps
        if len(values) != steps:
            raise ValueError(f"{steps} thresholds are needed, one per step, not {len(values)}")
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"thresholds must be finite and at least 0, not {list(values)}")
        self._thresholds = values

    @property
    def multiply_adds(self) -> list[int]:
        """Multiply-adds of one image that exits at each step, T numbers."""
        if self._policy_cost is None:
            self._policy_cost = policy_multiply_adds(self.policy, self.network)
        glance, focus = self._step_cost
        focus += self._policy_cost
        return [glance + number * focus for number in range(1 + self.network.focus_steps)]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Prediction:
        """Classify images; each leaves the batch as soon as it is confident enough.

        Args:
            images: (B, 3, H, W) uint8.
        """
        images = images.to(self.network.device)
        count, device = len(images), images.device
        costs = torch.tensor(self.multiply_adds, device=device)
        classes = torch.zeros(count, dtype=torch.int64, device=device)
        confidence = torch.zeros(count, device=device)
        exit_step = torch.zeros(count, dtype=torch.int64, device=device)
        locations = torch.full((count, self.network.focus_steps, 2), torch.nan, device=device)

        rows = torch.arange(count, device=device)
        step = self.network.glance(images)
        # Begun before any image leaves, so that a state can tell the images apart.
        scene = Scene(self.network, images, np.arange(count))
        state = initial_state(self.policy, scene)
        for number, threshold in enumerate(self.thresholds):
            if number > 0:
                step, state = advance(self.network, self.policy, images, step, state, rows)
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
        files.write_json(Path(folder) / f"{_NAME}.json", {"thresholds": list(self.thresholds)})

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
        if isinstance(policy, LearnedPolicy):
            policy.check_fit(network)
        if "thresholds" not in saved:
            raise ValueError(f"{folder / _NAME}.json has no thresholds; restore it from a copy")
        return cls(network, policy, saved["thresholds"])
