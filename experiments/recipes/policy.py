"""Ablations of the learned policy: change one choice of its training at a time.

python experiments/recipes/policy.py --features cached --cells 7 --precision bfloat16 \
    --run runs/policy-choices --out experiments/results/policy-choices

First it makes the networks to compare the common one with (--network, or the package's), beside the
run folder.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gfnet_agents import PolicySchedule, ScheduleComparisonConfig, compare_schedules
from gfnet_env.command_line import parse
from gfnet_env.encoders import ENCODERS, Features
from gfnet_env.encoders.compact import CompactEncoder
from gfnet_env.env.vector import open_model
from gfnet_env.images import ImageSet
from gfnet_env.models import GlanceFocusNetwork
from gfnet_env.training import ClassifierConfig, train_classifier


def _schedule(encoder: dict[str, Any] | None = None, **changes: Any) -> PolicySchedule:
    """The default schedule with some changes, and with arguments of the ``ObservationEncoder``."""
    networks = json.dumps({"features_extractor_kwargs": encoder})
    algorithm = f"ppo:policy_kwargs={networks}" if encoder else "ppo"
    return PolicySchedule.of(**{"algorithm": algorithm, "timesteps": 40_000} | changes)


class EarlierMap(CompactEncoder):
    """Shows the policy the map after the first blocks, but the classifier the last vector.

    Args:
        num_classes: Number of classes of its own head.
        blocks: Number of blocks before the map, at least 1.
    """

    def __init__(self, num_classes: int, blocks: int) -> None:
        super().__init__(num_classes)
        self.shown = blocks

    def encode(self, images: Tensor) -> Features:
        earlier = self.blocks[: self.shown](images)
        return Features(earlier, self.pool(self.blocks[self.shown :](earlier)))


ENCODERS.register("earlier-map")(EarlierMap)

EARLIER_MAPS = {f"map-of-block-{blocks}": f"earlier-map:blocks={blocks}" for blocks in (1, 2)}
PATCH_SIZES = {"patches-of-24": 24, "patches-of-48": 48}
SCHEDULES = {
    "default": _schedule(),
    # The policy has to learn the place of each cell, as in the authors' release.
    "flattened-maps": _schedule({"attention": False}),
    "latest-map-only": _schedule({"keep_glance": False}),
    "no-inhibition": _schedule({"inhibition": False}),
    "half-the-maps": _schedule({"channels": 32, "points": 16}),
    "all-alike": _schedule(sampling="all"),
    "no-exits": _schedule(exits="never"),
    "all-alike-no-exits": _schedule(sampling="all", exits="never"),
    "learns-from-val": _schedule(learn_from="val"),
    "log-probability": _schedule(reward="cross-entropy-gain"),
    "random-contrast": _schedule(reward="random-contrast"),
    "discount-0.7": _schedule(algorithm="ppo:gamma=0.7"),
    **{name: _schedule() for name in (*EARLIER_MAPS, *PATCH_SIZES)},
}


def make_networks(
    config: ScheduleComparisonConfig,
    image_sets: Mapping[str, ImageSet] | None = None,
    # As the packaged network was trained.
    epochs: int = 4,
) -> dict[str, Path]:
    """Make the networks that differ from the common one, in the map they show or in P.

    Args:
        config: Configuration of the comparison. The networks go beside its run folder and learn on
            its images.
        image_sets: Splits to train on, in place of its images.
        epochs: Epochs for networks with another P.

    Returns:
        The folders of the networks, by the name of the schedule that learns on each.
    """
    config.check_folders()
    folder = config.run.with_name(f"{config.run.name}-networks")
    common = open_model(config.network)
    assert isinstance(common, GlanceFocusNetwork)
    for name, encoder in EARLIER_MAPS.items():
        network = GlanceFocusNetwork(dataclasses.replace(common.config, encoder=encoder))
        network.load_state_dict(common.state_dict())
        network.save(folder / name)
    for name, side in PATCH_SIZES.items():
        training = ClassifierConfig.of(
            **config.images.given() | config.control.given(),
            run=folder / name,
            patch_size=side,
            epochs=epochs,
            object_share=0.3,
        )
        train_classifier(training, image_sets)
    return {name: folder / name for name in (*EARLIER_MAPS, *PATCH_SIZES)}


if __name__ == "__main__":
    chosen = parse(ScheduleComparisonConfig, __doc__)
    compare_schedules(SCHEDULES, chosen, networks=make_networks(chosen))
