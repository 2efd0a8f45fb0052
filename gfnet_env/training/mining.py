"""The windows of stage 1 that matter: looked for everywhere, and kept where they say something.

Random windows rarely hit a small object, so that a classifier learns from them that windows say
nothing. Patch-based multiple-instance learning hits it by encoding all windows; here candidates
come from a few places, are scored without gradients, and the best are trained on. No labels of
places are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gfnet_env.features import LiveFeatures
from gfnet_env.images import Batch, ImageSet
from gfnet_env.looks import Look
from gfnet_env.models.base import State
from gfnet_env.models.gfnet import GFNetState, GlanceFocusNetwork
from gfnet_env.policies.scan import OVERLAP
from gfnet_env.precision import AutocastPrecision, autocast
from gfnet_env.randomness import uniform

# Keeps these draws apart from others of the same seed.
_STREAM = 3
# The bag is better than chance once its loss is below this share of that of guessing.
_BETTER = 0.9
_TINY = 1e-6
# Candidates are shifted at random by up to this share of their side. The same window in every epoch
# would be learned by heart.
_SHIFT = 1 / 8
# Candidates of each kind: as long as scores say nothing yet, and later, when the where-map follows
# them, so that the others are there for what it misses.
_COUNTS = {"contrast": 8, "activation": 4, "random": 4, "map": 8}
_LATER = {"contrast": 2, "activation": 2, "random": 2, "map": 8}
# Share of the loss of one batch in its running mean.
_MOMENTUM = 0.02


@dataclass(frozen=True)
class Candidates:
    """Windows that were scored, C for each of B pictures.

    Attributes:
        location: (B, C, 2).
        scale: (B, C).
        boxes: In pixels, (B, C, 4).
        score: How much each says about the class, (B, C) in [0, 1].
    """

    location: Tensor
    scale: Tensor
    boxes: Tensor
    score: Tensor


class Miner(nn.Module):
    """Finds windows to train on; its state belongs to a training's checkpoint.

    Candidates are those with the strongest contrast in the overview, those that speak the most for
    the picture's class at the glance, random ones, and the best by the where-map. Windows are
    chosen by their score (see ``WhereMap``), without those that show the same as a better one; by
    their contrast as long as the classifier is no better than chance, since an encoder that knows
    nothing would train on its own mistakes.

    Args:
        network: With a where-map that knows what to expect.
        seed: Of the draws.
        random_share: Share of the windows that are trained on that is chosen at random even later.
        precision: What scoring computes in.

    Raises:
        ValueError: There are fewer candidates than windows to look at.
    """

    network: GlanceFocusNetwork
    loss: Tensor

    def __init__(
        self,
        network: GlanceFocusNetwork,
        *,
        seed: int,
        random_share: float = 0.1,
        precision: AutocastPrecision = "float32",
    ) -> None:
        super().__init__()
        assert network.where is not None
        fewest = sum(_LATER.values())
        if network.focus_steps > fewest:
            raise ValueError(
                f"mined windows come from {fewest} candidates, so that focus_steps may be at most "
                f"{fewest}, not {network.focus_steps}; ask for more looks after training"
            )
        # Not a part: the network is in the checkpoint already.
        self.__dict__["network"] = network
        prior = network.where.prior
        self._chance = float(-(prior * prior.log()).sum())
        self.register_buffer("loss", torch.tensor(self._chance))
        self.random_share, self.seed, self.precision = random_share, seed, precision

    @property
    def trusts_scores(self) -> bool:
        """Whether the classifier is better than chance by now."""
        return bool(self.loss < _BETTER * self._chance)

    def observe(self, loss: Tensor) -> None:
        """Take note of the losses of a classifier that has seen all windows, (B,)."""
        self.loss += _MOMENTUM * (loss.detach().mean() - self.loss)


class MinedWindows:
    """The windows that a ``Miner`` finds in one batch.

    Args:
        miner: Finds them.
        epoch: Counted from 0.

    Attributes:
        candidates: What was scored to find them.
    """

    def __init__(self, miner: Miner, epoch: int) -> None:
        self.miner, self._epoch = miner, epoch
        self.network: GlanceFocusNetwork = miner.network
        where = self.network.where
        assert where is not None
        self.where = where
        self.candidates: Candidates | None = None

    @torch.no_grad()
    def find(self, state: State, feature_map: Tensor, features: LiveFeatures, batch: Batch) -> Look:
        """The windows of each picture, the best first: B·N looks, picture by picture.

        Args:
            state: The state after a glance at the pictures.
            feature_map: The glance's, which the state was made from.
            features: What made it.
            batch: The pictures.
        """
        assert isinstance(state, GFNetState)
        assert state.heat is not None
        assert features.overviews is not None
        indices = torch.from_numpy(batch.indices).to(self.network.device)
        # In full precision, as policies decide.
        with torch.autocast(indices.device.type, enabled=False):
            contrast = _contrast(features.overviews.to(indices.device), state.heat.shape[2:])
            activation = _activation(state.logits, feature_map, batch.labels)
            location, scale = self._propose(state, contrast, activation, indices)
            numbers = indices.repeat_interleave(scale.shape[1]).cpu().numpy()
            looks = Look.at(location.flatten(0, 1), scale.flatten())
            score = self._score(features.images, numbers, looks).view_as(scale)
            sizes = state.size.repeat_interleave(scale.shape[1], dim=0)
            boxes = self.where.view.window_boxes(looks, sizes).view(*scale.shape, 4)
            self.candidates = Candidates(location, scale, boxes, score)
            chosen = self._choose(self.candidates, indices)
        each = torch.arange(len(chosen), device=chosen.device)[:, None]
        return Look.at(location[each, chosen].flatten(0, 1), scale[each, chosen].flatten())

    def _propose(
        self, state: GFNetState, contrast: Tensor, activation: Tensor | None, indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Locations (B, C, 2) and scales (B, C) of candidates, by maps (B, 1, h, w) and others."""
        assert state.heat is not None
        counts = _LATER if self.miner.trusts_scores else _COUNTS
        cells = state.heat.shape[2:].numel()
        draws = self._draw(indices, 0, counts["contrast"] + counts["random"], 3)
        kinds = (draws[..., 0] * state.heat.shape[1]).long()
        noise = self._draw(indices, 1, cells, 1).view(-1, 1, *state.heat.shape[2:])
        maps = [(contrast, _highest_peaks(contrast, counts["contrast"], noise))]
        if activation is not None:
            maps.append((activation, _highest_peaks(activation, counts["activation"])))
        at_random = draws[:, -counts["random"] :]
        found = [
            *(
                self.where.looks(peaks + kinds[:, : peaks.shape[1]] * cells, state.size, weights)
                for weights, peaks in maps
            ),
            Look.at(
                2 * at_random[..., 1:].flatten(0, 1) - 1,
                self.where.scales[kinds[:, -counts["random"] :]].flatten(),
            ),
            self.where.best(_highest_peaks(state.heat, counts["map"]), state.size, state.heat),
        ]
        rows = len(indices)
        location = torch.cat([each.location.view(rows, -1, 2) for each in found], dim=1)
        scale = torch.cat([each.scale.view(rows, -1) for each in found], dim=1)
        shift = _SHIFT * (2 * self._draw(indices, 4, scale.shape[1], 2) - 1)
        side = (scale * self.where.view.size)[..., None]
        # From one edge of a picture to the other, a location changes by two.
        shift = 2 * shift * side / (state.size[:, None] - side).clamp(min=1)
        return (location + shift).clamp(-1, 1), scale

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
        return self.where.score(logits)

    def _choose(self, candidates: Candidates, indices: Tensor) -> Tensor:
        """Which candidates to look at, (B, N), the best first."""
        steps, count = self.network.focus_steps, candidates.score.shape[1]
        draws = self._draw(indices, 2, count, 1)[..., 0]
        rank = candidates.score
        if not self.miner.trusts_scores:
            # In the order of their contrast. Nor is the map, which learns from the scores, worth
            # following.
            rank = -torch.arange(count, device=rank.device).to(rank).expand_as(rank) / count
        by_random = self._draw(indices, 3, steps, 1)[..., 0] < self.miner.random_share
        left = torch.ones_like(rank, dtype=torch.bool)
        is_chosen = torch.zeros_like(left)
        rows = torch.arange(len(rank), device=rank.device)
        chosen = []
        for step in range(steps):
            order = torch.where(by_random[:, step, None], draws.to(rank), rank)
            # If all others show the same as one that was chosen, any other will do.
            order = torch.where(left, order, order - 2).masked_fill(is_chosen, -torch.inf)
            best = order.argmax(dim=1)
            chosen.append(best)
            is_chosen[rows, best] = True
            left = left & (_overlaps(candidates.boxes, best) <= OVERLAP)
        return torch.stack(chosen, dim=1)

    def _draw(self, indices: Tensor, stream: int, count: int, numbers: int) -> Tensor:
        """Uniform numbers in (0, 1) by image and epoch, (B, count, numbers) float32."""
        keys = (self.miner.seed, _STREAM, self._epoch, stream)
        images = indices.cpu().numpy()[:, None, None]
        drawn = uniform(*keys, images, np.arange(count)[:, None], np.arange(numbers))
        return torch.from_numpy(drawn).float().clamp(_TINY, 1 - _TINY).to(indices.device)

    def where_loss(self, state: GFNetState) -> Tensor:
        """How far the where-map after the glance is from the scores, (B,) cross-entropies."""
        found = self.candidates
        assert found is not None
        assert state.heat is not None
        boxes, scale, score = found.boxes, found.scale, found.score
        sizes = state.size.repeat_interleave(score.shape[1], dim=0)
        cells = state.heat.shape[2:]
        number = self.where.cell_of(boxes.flatten(0, 1), scale.flatten(), sizes, cells)
        said = state.heat.flatten(1).gather(1, number.view_as(score))
        loss = functional.binary_cross_entropy_with_logits(said, score, reduction="none")
        return loss.mean(dim=1)


def _contrast(overviews: Tensor, cells: Sequence[int]) -> Tensor:
    """How much the pixels around each cell differ from their surroundings, (B, 1, h, w)."""
    grey = overviews.float().mean(dim=1, keepdim=True)
    shape = (cells[0], cells[1])
    means = functional.adaptive_avg_pool2d(grey, shape)
    surroundings = functional.avg_pool2d(means, 5, stride=1, padding=2, count_include_pad=False)
    surroundings = functional.interpolate(surroundings, grey.shape[2:], mode="nearest-exact")
    deviation = functional.adaptive_avg_pool2d((grey - surroundings).abs(), shape)
    return functional.avg_pool2d(deviation, 3, stride=1, padding=1, count_include_pad=False)


def _activation(logits: Tensor, feature_map: Tensor, labels: Tensor) -> Tensor | None:
    """How much each cell of the glance speaks for the picture's class, (B, 1, h, w), at least 0.

    It is the gradient of the class's margin times the map (HiResCAM, Draelos and Carin, 2020). None
    if nothing is learned before the map, so that there is no gradient.
    """
    if not feature_map.requires_grad:
        return None
    own = functional.one_hot(labels, logits.shape[1]).bool()
    with torch.enable_grad():
        margin = logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(dim=1)
        (gradient,) = torch.autograd.grad(margin.sum(), feature_map, retain_graph=True)
    spoken = (gradient * feature_map).sum(dim=1, keepdim=True).float()
    return functional.avg_pool2d(spoken.relu(), 3, stride=1, padding=1)


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
