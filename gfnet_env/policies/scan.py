"""The baseline that users would take otherwise: encode every window, and keep the best."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfnet_env.looks import Look
from gfnet_env.observations import PlainObservation
from gfnet_env.policies.base import POLICIES, Context
from gfnet_env.settings import checked

# Windows that are encoded at once.
_TOGETHER = 256
# Two windows that share more than this of their union show the same.
OVERLAP = 0.3

ScanMemory = dict[str, Tensor]


@POLICIES.register("scan")
class ScanPolicy:
    """Encodes all windows of a lattice, and looks at those that say the most about the class.

    This is what patch-based multiple-instance learning does (Bergner et al., ICLR 2023): nothing is
    overlooked, and the cost grows with the picture. See ``WhereMap.score`` for what a window says.
    Windows that show the same as a better one are left out. It stops where fewer windows are left
    than looks.

    Args:
        stride: From one window to the next, as a share of its side, in (0, 1].
        skip_empty: Whether windows of one colour are left out before they are encoded.

    Raises:
        ValueError: The stride is out of range.
    """

    def __init__(self, stride: float = 1.0, skip_empty: bool = False) -> None:
        stride = checked("stride", stride, float)
        if not 0 < stride <= 1:
            raise ValueError(f"stride must be in (0, 1], not {stride}")
        skip_empty = checked("skip_empty", skip_empty, bool)
        self.config: dict[str, Any] = {"stride": stride, "skip_empty": skip_empty}
        self.observation = PlainObservation()

    def start(self, context: Context) -> ScanMemory:
        """The best windows of each picture: location (B, N, 2), and stop (B, N) where none is left.

        Raises:
            ValueError: The model has no where-map, which says what a window is worth, or windows
                would be less than a pixel apart.
        """
        model: Any = context.model
        if getattr(model, "where", None) is None:
            raise ValueError(
                "the policy 'scan' needs a network that knows what a window is worth; train one "
                "with --windows mined"
            )
        step = self.config["stride"] * model.view.size
        if step < 1:
            raise ValueError(
                f"a stride of {self.config['stride']} puts windows of {model.view.size} pixels "
                f"{step:.2g} pixels apart, which all show the same; the least is "
                f"{1 / model.view.size:.2g}"
            )
        best = [self._best(context, model, row) for row in range(len(context.indices))]
        count = torch.tensor([len(each) for each in best], device=model.device)
        filled = [
            torch.cat([each, each.new_zeros(model.focus_steps - len(each), 2)]) for each in best
        ]
        steps = torch.arange(model.focus_steps, device=model.device)
        return {"location": torch.stack(filled), "stop": steps >= count[:, None]}

    def __call__(
        self, observation: Mapping[str, Tensor], memory: ScanMemory
    ) -> tuple[Look, ScanMemory]:
        number = observation["number"].squeeze(1).long()
        row = torch.arange(len(number), device=number.device)
        return Look.at(memory["location"][row, number], stop=memory["stop"][row, number]), memory

    def _best(self, context: Context, model: Any, row: int) -> Tensor:
        """The locations of the best windows of one picture, (at most N, 2), the best first."""
        images, index = context.features.images, context.indices[row]
        found = [torch.empty(0, 2, dtype=torch.float32, device=model.device)]
        scores = [found[0].new_empty(0)]
        step = self.config["stride"] * model.view.size
        for part in _lattice(images.sizes([index])[0].tolist(), model.view.size, step):
            numbers = np.full(len(part), index)
            if self.config["skip_empty"]:
                views = images.window(numbers, Look.at(part), model.view).flatten(1)
                full = views.amax(dim=1) > views.amin(dim=1)
                part, numbers = part[full.cpu()], numbers[full.cpu().numpy()]
                if len(part) == 0:
                    continue
            looks = Look.at(part.to(model.device))
            vector = context.features.window(numbers, looks).vector
            found.append(looks.location)
            scores.append(model.where.score(model.window_logits(vector, looks)))
        looks = Look.at(torch.cat(found))
        sizes = images.sizes([index]).to(model.device).expand(len(looks.location), 2)
        boxes = model.view.window_boxes(looks, sizes).float()
        # Imported here: torchvision takes as long to import as torch.
        from torchvision.ops import nms

        best = nms(boxes, torch.cat(scores).float(), OVERLAP)[: model.focus_steps]
        return looks.location[best]


def _lattice(size: Sequence[int], window: int, step: float) -> Sequence[Tensor]:
    """Locations of windows at most ``step`` pixels apart that cover a picture, in parts."""
    axes = []
    for side in size:
        count = math.ceil((side - window) / step) + 1
        axes.append(torch.linspace(-1 if count > 1 else 0, 1, count, dtype=torch.float32))
    return torch.cartesian_prod(*axes).split(_TOGETHER)
