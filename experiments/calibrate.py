"""Solve the table of budgets of an assembled network again, and save it in the network's folder.

python experiments/calibrate.py --run runs/policy --method searched
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.command_line import parse
from gfnet_env.exits import confidence
from gfnet_env.inference import Method, calibrate, learn_certainty
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Flat, Settings

Certainty = Literal["confidence", "gain"]


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Settings):
    """What to calibrate, on the split val of its images."""

    run: Path
    """Run folder of an assembled network."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    method: Method = "geometric"
    """How thresholds are solved."""
    certainty: Certainty = "confidence"
    """What thresholds are held against: confidence, or gain, the expected gain of looking on,
    which is learned on the same images."""
    focus_steps: Annotated[int, AtLeast(1)] | None = None
    """Most looks from now on; classifiers over sets take more than they were trained with."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def main(config: CalibrationConfig) -> None:
    """Load, calibrate, choose thresholds, save."""
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    if config.focus_steps is not None:
        assert isinstance(gfnet.model, GlanceFocusNetwork)
        gfnet.model.set_focus_steps(config.focus_steps)
        gfnet = EarlyExitGFNet(gfnet.model, gfnet.policy)
    images = config.images.open(gfnet.model, "val")
    gfnet.certainty = confidence
    if config.certainty == "gain":
        learn_certainty(gfnet, images)
    table = calibrate(gfnet, images, config.method)
    chosen, first, last = table.cheapest(), table.points[0], table.points[-1]
    gfnet.set_thresholds(chosen.thresholds)
    gfnet.save(config.run)
    print(
        f"{len(table.points)} budgets from {first.multiply_adds / 1e6:.2f} M to "
        f"{last.multiply_adds / 1e6:.2f} M multiply-adds; thresholds set for "
        f"{chosen.accuracy:.1%} at {chosen.multiply_adds / 1e6:.2f} M, figures of the split val"
    )


if __name__ == "__main__":
    main(parse(CalibrationConfig, __doc__))
