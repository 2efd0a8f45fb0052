"""Record what a network was trained on, so that later commands use the same images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from gfnet_env.images.picture import Fit
from gfnet_env.settings import Above, AtLeast, Between, Settings


@dataclass(frozen=True, kw_only=True)
class TrainingData(Settings):
    """The origin of a network's weights.

    Attributes:
        images: Spec of the image set; None if it was in memory or is unknown.
        image_size: Side that pictures were brought to, in pixels; None if each kept its size.
        image_seed: Seed of the scenes, and of the splits of a folder without splits.
        fit: How pictures were brought to their shape, see ``FolderImages``.
        crop: Share of a picture's side that a centre crop kept, see ``FolderImages``.
        seed: Seed of the training.
        commit: Commit of the training code.
        policy: Run folder of the policy that stage 3 used.
        source: File that the weights were imported from.
        accuracy: Accuracy on the test split after each step, by the name of the policy.
    """

    images: str | None = None
    image_size: Annotated[int | None, AtLeast(1)] = None
    image_seed: int = 0
    fit: Fit = "crop"
    crop: Annotated[float, Above(0), Between(0, 1)] = 1.0
    seed: int | None = None
    commit: str | None = None
    policy: str | None = None
    source: str | None = None
    accuracy: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Read the result of ``to_json``, or metadata of version 0.1, which may lack any field."""
        given = {name: value for name, value in saved.items() if value is not None}
        accuracy = given.get("accuracy", given.get("test_accuracy", {}))
        steps = {policy: tuple(values) for policy, values in accuracy.items()}
        return super().from_json({**given, "accuracy": steps})
