"""Solve the table of budgets of an assembled network anew, and keep it in its folder.

python experiments/calibrate.py --run runs/policy --method searched
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from gfnet_env import EarlyExitGFNet
from gfnet_env.inference import choose_operating_point
from gfnet_env.inference.budgets import Method
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.runs import resolve_device


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(ImageOptions):
    """What to calibrate; the split val of its images is used."""

    run: Path
    """Run folder of an assembled network."""
    method: Method = "geometric"
    """How thresholds are solved."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def calibrate(config: CalibrationConfig) -> None:
    """Load, calibrate, choose thresholds, save."""
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    images = config.open(gfnet.network, "val")
    check_fit(gfnet.network, images)
    point = choose_operating_point(gfnet.calibrate(images, config.method))
    gfnet.set_thresholds(point.thresholds)
    gfnet.save(config.run)
    print(
        f"{len(gfnet.budgets)} budgets from {gfnet.budgets[0].multiply_adds / 1e6:.2f} M to "
        f"{gfnet.budgets[-1].multiply_adds / 1e6:.2f} M multiply-adds; thresholds set for "
        f"{point.accuracy:.1%} at {point.multiply_adds / 1e6:.2f} M, figures of the split val"
    )


if __name__ == "__main__":
    calibrate(tyro.cli(CalibrationConfig, description=__doc__))
