"""Solve the table of budgets of an assembled network anew, and keep it in its folder.

python experiments/calibrate.py --run runs/policy --method searched
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from gfnet_env import EarlyExitGFNet
from gfnet_env.inference import choose_operating_point
from gfnet_env.inference.budgets import Method
from gfnet_env.matching import check_fit, open_images
from gfnet_env.runs import resolve_device


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """What to calibrate, on what."""

    run: Path
    """Run folder of an assembled network."""
    method: Method = "geometric"
    """How thresholds are solved."""
    images: str | None = None
    """Image set, of which the split val is used; by default what the network was trained on."""
    image_size: int | None = None
    """Side that pictures of a folder are brought to; by default as in the network's training."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def calibrate(config: CalibrationConfig) -> None:
    """Load, calibrate, choose thresholds, save."""
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    images = open_images(
        gfnet.network,
        config.images,
        "val",
        image_size=config.image_size,
        data_root=config.data_root,
    )
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
