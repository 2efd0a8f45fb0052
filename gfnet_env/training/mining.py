"""The windows of stage 1 that matter: looked for everywhere, and kept where they say something.

Random windows rarely hit a small object, so that a classifier learns from them that windows say
nothing. Patch-based multiple-instance learning hits it by encoding all windows; here candidates
come from a few places, are scored without gradients, and the best are trained on. No labels of
places are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.images import ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState, GlanceFocusNetwork
from gfnet_env.policies.base import Context
from gfnet_env.precision import Precision, autocast
from gfnet_env.randomness import uniform
from gfnet_env.rows import Shared

# Keeps these draws apart from others of the same seed.
_STREAM = 3
# Two windows that share more than this of their union show the same.
_OVERLAP = 0.3
# The bag is better than chance once its loss is below this share of that of guessing.
_BETTER = 0.9
_TINY = 1e-6
# Share of the loss of one batch in its running mean.
_MOMENTUM = 0.02


@dataclass(frozen=True)
class Candidates:
    """Windows that were scored, C for each of B pictures.

    Attributes:
        location: (B, C, 2).
        scale: (B, C).
        score: How much each says about the class, (B, C) in [0, 1].
    """

    location: Tensor
    scale: Tensor
    score: Tensor

    @property
    def looks(self) -> Look:
        """All of them, (B·C)."""
        return Look.at(self.location.flatten(0, 1), self.scale.flatten())


class Miner(nn.Module):
    """Finds windows to train on; its state belongs to a training's checkpoint.

    Candidates are the best by the where-map, those with the strongest contrast in the feature map
    of the glance, and random ones. A window's score is the Kullback-Leibler divergence of the class
    distribution that the network gives it alone from that of all training images, as a share of the
    largest possible. Windows are chosen by their score, without those that show the
    same as a better one; at random as long as the classifier is no better than chance, since an
    encoder that knows nothing scores at random, and would train on its own mistakes.

    Args:
        labels: Of the training images, (N,) int64.
        num_classes: K.
        seed: Of the draws.
        by_map: Candidates by the where-map.
        by_contrast: Candidates by contrast.
        at_random: Random candidates.
        random_share: Share of the windows that are trained on that is chosen at random even later.
        precision: What scoring computes in.
    """

    prior: Tensor
    loss: Tensor

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        *,
        seed: int,
        by_map: int = 8,
        by_contrast: int = 8,
        at_random: int = 4,
        random_share: float = 0.2,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        counts = torch.bincount(labels, minlength=num_classes).clamp(min=1).float()
        self.register_buffer("prior", counts / counts.sum())
        # Of guessing, until it is known.
        self.register_buffer("loss", -(self.prior * self.prior.log()).sum())
        self.counts = {"map": by_map, "contrast": by_contrast, "random": at_random}
        self.random_share, self.seed, self.precision = random_share, seed, precision

    @property
    def trusts_scores(self) -> bool:
        """Whether the classifier is better than chance by now."""
        chance = -(self.prior * self.prior.log()).sum()
        return bool(self.loss < _BETTER * chance)

    def observe(self, loss: Tensor) -> None:
        """Take note of the loss of a classifier that has seen all windows, (B,)."""
        self.loss += _MOMENTUM * (loss.detach().mean() - self.loss)

    def scored(self, logits: Tensor) -> Tensor:
        """Scores (B,) of windows with logits (B, K)."""
        logs = logits.float().log_softmax(dim=1)
        divergence = (logs.exp() * (logs - self.prior.log())).sum(dim=1)
        return divergence / -self.prior.min().log()


class MinedWindows:
    """A policy of the windows that a ``Miner`` finds in one batch.

    Args:
        miner: Finds them.
        network: With a where-map.
        epoch: Counted from 0.

    Attributes:
        candidates: What was scored, after the first decision.
    """

    def __init__(self, miner: Miner, network: GlanceFocusNetwork, epoch: int) -> None:
        assert network.where is not None
        self.miner, self.network, self.where = miner, network, network.where
        self._epoch = epoch
        self.candidates: Candidates | None = None

    @staticmethod
    def observation(state: State) -> dict[str, Any]:
        """The state itself."""
        return {"state": state}

    def start(self, context: Context) -> dict[str, Any]:
        indices = torch.from_numpy(context.indices).to(self.network.device)
        return {"images": Shared(context.features.images), "indices": indices}

    def __call__(
        self, observation: Mapping[str, Any], memory: dict[str, Any]
    ) -> tuple[Look, dict[str, Any]]:
        state = observation["state"]
        if "looks" not in memory:
            memory = memory | self._mine(state, memory["images"].value, memory["indices"])
        location, scale = memory["looks"]
        number = state.number
        each = torch.arange(len(number), device=number.device)
        return Look.at(location[each, number], scale[each, number]), memory

    def _mine(self, state: GFNetState, images: ImageSet, indices: Tensor) -> dict[str, Any]:
        """The windows of each picture, location (B, N, 2) and scale (B, N), in order."""
        location, scale = self._propose(state, indices)
        found = Candidates(location, scale, torch.zeros_like(scale))
        numbers = indices.repeat_interleave(scale.shape[1]).cpu().numpy()
        score = self._score(images, numbers, found.looks).view_as(scale)
        self.candidates = Candidates(location, scale, score)
        chosen = self._choose(state, self.candidates, indices)
        each = torch.arange(len(chosen), device=chosen.device)[:, None]
        return {"looks": (location[each, chosen], scale[each, chosen])}

    def _propose(self, state: GFNetState, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Locations (B, C, 2) and scales (B, C) of candidates."""
        assert state.heat is not None
        counts, cells = self.miner.counts, state.heat.shape[2:]
        kinds = state.heat.shape[1]
        draws = self._draw(indices, 0, sum(counts.values()), 5)
        noise = self._draw(indices, 1, cells.numel(), 1).view(-1, 1, *cells)
        by_contrast = _highest_peaks(_contrast(state.glance_map), counts["contrast"], noise)
        count = by_contrast.shape[1]
        scale = (draws[:, :count, 0] * kinds).long()
        numbers = [
            _highest_peaks(state.heat, counts["map"]),
            scale * cells.numel() + by_contrast,
            (draws[:, -counts["random"] :, 0] * (kinds * cells.numel())).long(),
        ]
        number = torch.cat(numbers, dim=1)
        sizes = state.size.repeat_interleave(number.shape[1], dim=0)
        looks = self.where.looks(number.flatten(), sizes, cells)
        # Anywhere in its cell.
        extents = self.where.glance_view.frame(sizes)[1]
        offset = (draws[:, : number.shape[1], 1:3].flatten(0, 1) - 0.5) * (
            extents / torch.tensor(cells, device=extents.device)
        )
        boxes = self.where.view.window_boxes(looks, sizes)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + offset
        looks = self.where.centred(centres, looks.scale, sizes)
        return looks.location.view(*number.shape, 2), looks.scale.view(number.shape)

    def _score(self, images: ImageSet, indices: Any, looks: Look) -> Tensor:
        """How much windows say about the class, (B·C,)."""
        encoder = self.network.local_encoder
        modes = [(part, part.training) for part in encoder.modules()]
        encoder.eval()
        try:
            views = images.window(indices, looks, self.network.view).to(self.network.device)
            with autocast(self.network.device, self.miner.precision):
                vector = encoder(views, images.normalised).vector
                logits = self.network.window_logits(vector, looks)
        finally:
            for part, training in modes:
                part.training = training
        return self.miner.scored(logits)

    def _choose(self, state: GFNetState, candidates: Candidates, indices: Tensor) -> Tensor:
        """Which candidates to look at, (B, N), the best first."""
        steps, count = self.network.focus_steps, candidates.score.shape[1]
        draws = self._draw(indices, 2, count, 2)
        rank = candidates.score
        if not self.miner.trusts_scores:
            # Nor is the map, which learns from the scores, worth following.
            by_map = torch.arange(count, device=rank.device) < self.miner.counts["map"]
            rank = draws[..., 0].to(rank) - by_map.to(rank)
        sizes = state.size.repeat_interleave(count, dim=0)
        boxes = self.where.view.window_boxes(candidates.looks, sizes).view(-1, count, 4)
        by_random = self._draw(indices, 3, steps, 1)[..., 0] < self.miner.random_share
        left = torch.ones_like(rank, dtype=torch.bool)
        chosen = []
        for step in range(steps):
            order = torch.where(by_random[:, step, None], draws[..., 1].to(rank), rank)
            # If all others show the same as one that was chosen, any will do.
            best = torch.where(left, order, order - 2).argmax(dim=1)
            chosen.append(best)
            left = left & (_overlaps(boxes, best) <= _OVERLAP)
            left.scatter_(1, best[:, None], False)
        return torch.stack(chosen, dim=1)

    def _draw(self, indices: Tensor, stream: int, count: int, numbers: int) -> Tensor:
        """Uniform numbers in (0, 1) by image and epoch, (B, count, numbers) float32."""
        keys = (self.miner.seed, _STREAM, self._epoch, stream)
        images = indices.cpu().numpy()[:, None, None]
        drawn = uniform(*keys, images, np.arange(count)[:, None], np.arange(numbers))
        return torch.from_numpy(drawn).float().clamp(1e-6, 1 - 1e-6).to(indices.device)

    def where_loss(self, state: GFNetState) -> Tensor:
        """How far the where-map after the glance is from the scores, (B,) cross-entropies."""
        assert self.candidates is not None
        assert state.heat is not None
        count = self.candidates.score.shape[1]
        sizes = state.size.repeat_interleave(count, dim=0)
        number = self.where.cell_of(self.candidates.looks, sizes, state.heat.shape[2:])
        said = state.heat.flatten(1).gather(1, number.view(-1, count))
        score = self.candidates.score.clamp(0, 1)
        loss = functional.binary_cross_entropy_with_logits(said, score, reduction="none")
        return loss.mean(dim=1)


def _contrast(feature_map: Tensor) -> Tensor:
    """How much the features around each cell differ from those of most cells, (B, 1, h, w)."""
    usual = feature_map.flatten(2).median(dim=2).values[..., None, None]
    deviation = (feature_map - usual).abs().float().sum(dim=1, keepdim=True)
    return functional.avg_pool2d(deviation, 3, stride=1, padding=1, count_include_pad=False)


def _highest_peaks(maps: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
    """The numbers of the highest local maxima of (B, S, h, w) maps, (B, at most count).

    Uniform noise draws from the peaks of positive maps, with the odds of their tenth power.
    """
    around = functional.max_pool2d(maps, 3, stride=1, padding=1)
    is_peak = maps == around
    if noise is not None:
        # Gumbel noise draws without replacement.
        maps = (maps + _TINY).log() - 0.1 * (-noise.log()).log()
    peaks = torch.where(is_peak, maps, maps - 1e6).flatten(1)
    return peaks.topk(min(count, peaks.shape[1]), dim=1).indices


def _overlaps(boxes: Tensor, chosen: Tensor) -> Tensor:
    """The share of their union that each of (B, C, 4) boxes shares with a chosen one, (B, C)."""
    other = boxes[torch.arange(len(boxes), device=boxes.device), chosen][:, None]
    first = torch.maximum(boxes[..., :2], other[..., :2])
    last = torch.minimum(boxes[..., 2:], other[..., 2:])
    shared = (last - first).clamp(min=0).prod(dim=2)
    areas = [(each[..., 2:] - each[..., :2]).prod(dim=2) for each in (boxes, other)]
    return shared / (areas[0] + areas[1] - shared)
