"""Solve the table of budgets of a saved network again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from gfnet_env.benchmarks.statistics import expected_calibration_error
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.exits import confidence
from gfnet_env.files import check_writable
from gfnet_env.images import ImageSet
from gfnet_env.inference import (
    EarlyExitGFNet,
    Method,
    assembled_in,
    calibrate,
    fit_temperatures,
    learn_certainty,
)
from gfnet_env.matching import ImageOptions
from gfnet_env.models import GlanceFocusNetwork
from gfnet_env.planning import Plan, plan_passes
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, Flat, Settings

Certainty = Literal["confidence", "gain"]


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Settings):
    """What to calibrate, on the split val of its images."""

    run: Path
    """Run folder of an assembled network, or of all stages."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    method: Method = "geometric"
    """How thresholds are solved."""
    certainty: Certainty = "confidence"
    """What thresholds are held against: confidence, or gain, the expected gain of looking on,
    which is learned on the same images."""
    temperatures: bool = False
    """Whether to fit a temperature for each step first, so that confidence means accuracy."""
    focus_steps: Annotated[int, AtLeast(1)] | None = None
    """Most looks from now on; classifiers over sets take more than they were trained with."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def calibrate_run(config: CalibrationConfig) -> None:
    """Load a network, solve its table, choose thresholds and save it where it was."""
    folder, gfnet = assembled_in(config.run), _load(config)
    images = config.images.open(gfnet.model, "val")
    gfnet.certainty = confidence
    if config.temperatures:
        before = _error(gfnet, images)
        fit_temperatures(gfnet, images)
        print(f"calibration error {before:.3f}, with temperatures {_error(gfnet, images):.3f}")
    if config.certainty == "gain":
        learn_certainty(gfnet, images)
    table = calibrate(gfnet, images, config.method)
    chosen, first, last = table.cheapest(), table.points[0], table.points[-1]
    gfnet.set_thresholds(chosen.thresholds)
    gfnet.save(folder)
    print(
        f"{len(table.points)} budgets from {first.multiply_adds / 1e6:.2f} M to "
        f"{last.multiply_adds / 1e6:.2f} M multiply-adds; thresholds set for "
        f"{chosen.accuracy:.1%} at {chosen.multiply_adds / 1e6:.2f} M, figures of the split val"
    )


def _error(gfnet: EarlyExitGFNet, images: ImageSet) -> float:
    """The expected calibration error of all steps together."""
    record = evaluate_policy(gfnet.model, gfnet.policy, images)
    return expected_calibration_error(record.confidence.ravel(), record.correct.ravel())


def plan_calibrate(config: CalibrationConfig) -> Plan:
    """What ``calibrate_run`` would do and cost."""
    gfnet = _load(config)
    images = config.images.open(gfnet.model, "val")
    passes = 1 + (config.certainty == "gain") + 3 * config.temperatures
    return plan_passes(config, gfnet, {"val": images}, {"val": passes})


def _load(config: CalibrationConfig) -> EarlyExitGFNet:
    """The network, with as many looks as wanted, from a folder that it can be saved into."""
    folder = assembled_in(config.run)
    check_writable(folder)
    gfnet = EarlyExitGFNet.load(folder).to(resolve_device(config.device))
    if config.focus_steps is None:
        return gfnet
    assert isinstance(gfnet.model, GlanceFocusNetwork)
    gfnet.model.set_focus_steps(config.focus_steps)
    return EarlyExitGFNet(gfnet.model, gfnet.policy)
