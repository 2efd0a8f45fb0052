"""Export a saved network to ONNX."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from gfnet_env.export import export_int8, export_onnx
from gfnet_env.images import Subset
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import check_free
from gfnet_env.settings import Above, AtLeast, Flat, Settings


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """What to export, and to which folder."""

    run: Path
    """Run folder of an assembled network, or of all stages."""
    out: Path
    """Folder to write."""
    multiply_adds: Annotated[float, Above(0)] | None = None
    """Mean cost in multiply-adds to set the thresholds for; by default the run's thresholds."""
    int8: bool = False
    """Whether convolutions compute with 8-bit integers; their ranges are those of pictures of val,
    and the accuracy on test is measured beside that of floats."""
    calibration_images: Annotated[int, AtLeast(1)] = 200
    """Pictures of val to calibrate int8 with, drawn at random."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    overwrite: bool = False
    """Whether an existing folder may be written into."""


def export(config: ExportConfig) -> None:
    """Load, set the budget, write."""
    check_free(config.out, overwrite=config.overwrite)
    gfnet = EarlyExitGFNet.load(assembled_in(config.run))
    if config.multiply_adds is not None:
        gfnet.set_budget(multiply_adds=config.multiply_adds)
    if config.int8:
        val, test = (config.images.open(gfnet.model, split) for split in ("val", "test"))
        drawn = np.random.default_rng(0).permutation(len(val))[: config.calibration_images]
        found = export_int8(gfnet, config.out, Subset(val, drawn), test)
        print(", ".join(f"{kind} {share:.1%}" for kind, share in found.items()), "right on test")
    else:
        export_onnx(gfnet, config.out)
    print(f"{config.out} runs with numpy, Pillow and onnxruntime: classify.py PICTURE")
