"""Export an assembled network to ONNX, with a script that runs it without torch.

python experiments/export_onnx.py --run runs/policy --out exported
python exported/classify.py PICTURE
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gfnet_env import EarlyExitGFNet
from gfnet_env.command_line import parse
from gfnet_env.export import export_onnx
from gfnet_env.runs import check_free
from gfnet_env.settings import Above, Settings


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """What to export, and to which folder."""

    run: Path
    """Run folder of an assembled network."""
    out: Path
    """Folder to write."""
    multiply_adds: Annotated[float, Above(0)] | None = None
    """Mean cost in multiply-adds to set the thresholds for; by default the run's thresholds."""
    overwrite: bool = False
    """Whether an existing folder may be written into."""


def export(config: ExportConfig) -> None:
    """Load, set the budget, write."""
    check_free(config.out, overwrite=config.overwrite)
    gfnet = EarlyExitGFNet.load(config.run)
    if config.multiply_adds is not None:
        gfnet.set_budget(multiply_adds=config.multiply_adds)
    export_onnx(gfnet, config.out)
    print(f"{config.out} runs with numpy, Pillow and onnxruntime: classify.py PICTURE")


if __name__ == "__main__":
    export(parse(ExportConfig, __doc__))
