"""A model that is no GFNet, pictures of mixed sizes, and what both are compared by."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gfnet_env
from gfnet_env import rows
from gfnet_env.digest import digest
from gfnet_env.features import CachedFeatures
from gfnet_env.images.base import ImageSet, cut
from gfnet_env.looks import ViewConfig
from gfnet_env.models.base import State
from gfnet_env.models.trained_on import TrainingData

CELLS = 3


@dataclass(frozen=True, kw_only=True)
class TokenState(State):
    tokens: Tensor


class TokenModel(nn.Module):
    """Reads columns of pixels as tokens; overviews and windows have features of their own kinds."""

    num_classes, focus_steps, class_names = 5, 2, None
    device, trained_on = torch.device("cpu"), TrainingData()
    view = ViewConfig(size=16, aspect="pad")
    encoder_modules = ("embed",)

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(48, 7), nn.Linear(7, 5)

    def encode_overview(self, views, normalised=False):
        tokens = self.embed(views.float().flatten(1, 2).transpose(1, 2) / 255)
        return {"tokens": tokens, "brightest": views.flatten(1).argmax(dim=1)}

    def encode_window(self, views, normalised=False):
        return self.encode_overview(views)["tokens"].amax(dim=1)

    def begin(self, features, sizes):
        count = len(sizes)
        tokens = features["tokens"] + features["brightest"][:, None, None] / 1000
        logits, number = self.head(tokens.mean(dim=1)), torch.zeros(count, dtype=torch.int64)
        where = {"location": torch.zeros(count, 2), "scale": torch.ones(count), "size": sizes}
        return TokenState(logits=logits, number=number, tokens=tokens, **where)

    def look(self, features, looks, state):
        tokens = torch.cat([state.tokens, features[:, None]], dim=1)
        logits, number = self.head(tokens.mean(dim=1)), state.number + 1
        where = {"location": looks.location, "scale": looks.scale, "size": state.size}
        return TokenState(logits=logits, number=number, tokens=tokens, **where)

    def multiply_adds(self):
        return [16 * 48 * 7 + 35] * 3


class Counted:
    """Image sets that count the views made of them."""

    read = 0

    def _regions(self, indices, *others):
        self.read += len(indices)
        return super()._regions(indices, *others)


class CountedImages(Counted, gfnet_env.ArrayImages):
    pass


class MixedImages(ImageSet):
    """Pictures in memory, each of its own size."""

    def __init__(self, sizes):
        rng = np.random.default_rng(0)
        shapes = [(1, 3, *size) for size in sizes]
        self.pictures = [torch.from_numpy(rng.integers(0, 256, each, np.uint8)) for each in shapes]
        self.labels = torch.arange(len(sizes)) % 5

    def _sizes(self, indices):
        return torch.tensor([self.pictures[index].shape[2:] for index in indices])

    def _regions(self, indices, boxes, shape, view):
        first = torch.zeros(1, dtype=torch.int64)
        parts = [
            cut(self.pictures[index], first, box[None], shape, view)
            for index, box in zip(indices, boxes, strict=True)
        ]
        return torch.cat(parts)

    def digest(self):
        return digest(*self.pictures)


class CountedMixedImages(Counted, MixedImages):
    pass


@pytest.fixture
def images(tiny_images):
    return CountedImages(tiny_images[:], tiny_images.labels)


@pytest.fixture
def mixed_images():
    return CountedMixedImages([(24, 32), (40, 17), (16, 16), (16, 90), (33, 33), (70, 50)])


@pytest.fixture
def token_model():
    torch.manual_seed(0)
    return TokenModel().eval()


@pytest.fixture
def cached(tmp_path):
    return partial(CachedFeatures, cells=CELLS, folder=tmp_path / "features")


@pytest.fixture
def same():
    """Whether two trees of tensors or arrays agree.

    Sums may differ where an encoder is given another number of views at once.
    """

    def compare(one, other, tolerance=1e-5):
        if one is None:
            assert other is None
        elif isinstance(one, dict):
            assert set(one) == set(other)
            compare([one[key] for key in one], [other[key] for key in one], tolerance)
        elif isinstance(one, tuple | list) or (isinstance(one, np.ndarray) and one.dtype == object):
            assert len(one) == len(other)
            for left, right in zip(one, other, strict=True):
                compare(left, right, tolerance)
        elif isinstance(one, Tensor | np.ndarray | int | float | np.generic | str):
            np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)
        else:
            compare(rows.tensors(one), rows.tensors(other), tolerance)

    return compare
