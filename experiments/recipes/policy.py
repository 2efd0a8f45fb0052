"""What the learned policy owes to each choice in the way it learns: one changed at a time.

python experiments/recipes/policy.py --features cached --cells 7 --precision bfloat16 \
    --run runs/policy-choices --out experiments/results/policy-choices

Networks that the common one (--network, or the package's) is held against are made first, beside
the run folder.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from torch import Tensor

from gfnet_agents import PolicySchedule, ScheduleComparisonConfig, compare_schedules
from gfnet_agents.training import open_network
from gfnet_env.data import ImageSet
from gfnet_env.matching import ImageOptions
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.encoders import Features, register_encoder
from gfnet_env.perception.encoders.compact import CompactEncoder
from gfnet_env.runs import values_of
from gfnet_env.training import ClassifierConfig, train_classifier
from gfnet_env.training.config import RunControl


def _schedule(encoder: dict[str, Any] | None = None, **changes: Any) -> PolicySchedule:
    """The default one but for what is changed, with these arguments of ``ObservationEncoder``."""
    networks = {"features_extractor_kwargs": encoder}
    settings = (f"policy_kwargs={json.dumps(networks)}",) if encoder else ()
    return PolicySchedule(**{"timesteps": 40_000, "settings": settings} | changes)


class EarlierMap(CompactEncoder):
    """Shows the policy the map after some blocks only; the classifier has the vector of all.

    Args:
        num_classes: Classes of its own head.
        blocks: How many, at least 1.
    """

    def __init__(self, num_classes: int, blocks: int) -> None:
        super().__init__(num_classes)
        self.shown = blocks

    def encode(self, images: Tensor) -> Features:
        earlier = self.blocks[: self.shown](images)
        return Features(earlier, self.pool(self.blocks[self.shown :](earlier)))


register_encoder("map-of-block-1", lambda num_classes: EarlierMap(num_classes, 1))
register_encoder("map-of-block-2", lambda num_classes: EarlierMap(num_classes, 2))

EARLIER_MAPS = ("map-of-block-1", "map-of-block-2")
PATCH_SIZES = {"patches-of-24": 24, "patches-of-48": 48}
SCHEDULES = {
    "default": _schedule(),
    # Where things are in a map has to be learned cell by cell, as in the authors' release.
    "flattened-maps": _schedule({"attention": False}),
    "latest-map-only": _schedule({"keep_glance": False}),
    "no-inhibition": _schedule({"inhibition": False}),
    "half-the-maps": _schedule({"channels": 32, "points": 16}),
    "all-alike": _schedule(sampling="all"),
    "no-exits": _schedule(exit_confidence=None),
    "all-alike-no-exits": _schedule(sampling="all", exit_confidence=None),
    "learns-from-val": _schedule(learn_from="val"),
    "log-probability": _schedule(reward="cross-entropy-gain"),
    "random-contrast": _schedule(reward="random-contrast"),
    "discount-0.7": _schedule(discount=0.7),
    **{name: _schedule() for name in (*EARLIER_MAPS, *PATCH_SIZES)},
}


def make_networks(
    config: ScheduleComparisonConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    # As the packaged network was trained.
    epochs: int = 4,
) -> dict[str, Path]:
    """The networks that are not the one of all: that one with an earlier map, and of other P.

    Args:
        config: Beside whose run folder they are made, on whose images.
        image_sets: Splits to train on in place of the default images.
        epochs: Of those of other P.

    Returns:
        Their folders, by the name of the schedule that learns on them.
    """
    folder = config.run.with_name(f"{config.run.name}-networks")
    common = open_network(config.network)
    for name in EARLIER_MAPS:
        network = GlanceFocusNetwork(dataclasses.replace(common.config, encoder=name))
        network.load_state_dict(common.state_dict())
        network.save(folder / name)
    shared: dict[str, Any] = values_of(config, ImageOptions) | values_of(config, RunControl)
    # What is left out of the command line is as the packaged network has it.
    shared = {name: value for name, value in shared.items() if value is not None}
    for name, side in PATCH_SIZES.items():
        train_classifier(
            ClassifierConfig(
                run=folder / name, patch_size=side, epochs=epochs, object_share=0.3, **shared
            ),
            image_sets,
        )
    return {name: folder / name for name in (*EARLIER_MAPS, *PATCH_SIZES)}


if __name__ == "__main__":
    chosen = tyro.cli(ScheduleComparisonConfig, description=__doc__)
    compare_schedules(SCHEDULES, chosen, networks=make_networks(chosen))
