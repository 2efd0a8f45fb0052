import numpy as np
import pytest
import torch

import gfnet_env
from gfnet_env.features import LiveFeatures
from gfnet_env.images import Augmentation, augment, batches
from gfnet_env.policies import Context
from gfnet_env.rollout import rollout
from gfnet_env.training.patches import TrainingPatches


@pytest.fixture
def images():
    """Images that say where they were, with an object at the top right."""
    columns = torch.arange(64, dtype=torch.uint8).expand(200, 3, 64, 64)
    boxes = torch.tensor([[2.0, 40.0, 12.0, 50.0]]).expand(200, 4)
    return gfnet_env.ArrayImages(columns, torch.zeros(200, dtype=torch.int64), boxes=boxes)


@pytest.fixture
def locations(tiny_network):
    def draw(images, policy, order=None):
        """Where a policy looks at some images, (B, N, 2)."""
        batch = next(batches(images, len(images), order))
        features = LiveFeatures(tiny_network, images)
        context = Context(features, batch.indices, batch.labels, batch.boxes)
        _, *steps = rollout(features, policy, context)
        return torch.stack([step.state.location for step in steps], dim=1)

    return draw


def test_patches_follow_objects_into_the_mirror(images, locations):
    mirrored = augment(images, Augmentation(flip=True))
    flipped = mirrored[:][:, 0, 0, 0] == 63
    chosen = locations(mirrored, TrainingPatches(0, 0, object_share=1.0))
    # The object is right of the middle, and left of it in a mirror.
    assert (chosen[~flipped, :, 1] > 0).all()
    assert (chosen[flipped, :, 1] < 0).all()
    assert (chosen[..., 0] < 0).all()


def test_the_wanted_share_of_patches_is_on_the_object(images, locations):
    chosen = locations(images, TrainingPatches(0, 0, object_share=0.3))
    corners = (chosen + 1) / 2 * 48
    centre = torch.tensor([7.0, 45.0])
    hits = ((corners <= centre) & (centre <= corners + 16)).all(dim=2).float().mean()
    assert 0.3 < hits < 0.45


def test_patches_depend_on_image_step_and_epoch_alone(images, locations):
    policy = TrainingPatches(3, 1, object_share=0.5)
    every = locations(images, policy)
    order = np.array([150, 2, 77])
    assert torch.equal(locations(images, policy, order), every[order])
    assert not torch.equal(every[:, 0], every[:, 1])
    for other in (TrainingPatches(3, 2, 0.5), TrainingPatches(4, 1, 0.5)):
        assert not torch.isclose(locations(images, other), every).any(dim=0).all()
    uniform = locations(images, TrainingPatches(3, 1))
    assert uniform.min() < -0.9 < 0.9 < uniform.max()
    assert uniform.mean().abs() < 0.1
