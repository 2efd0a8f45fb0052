"""All three stages and the evaluation, one after the other."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gfnet_agents.recipes import find_recipe
from gfnet_agents.training import PolicyConfig, PolicySchedule, train_policy
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.data import ImageSet, ReadingOptions
from gfnet_env.files import read_json, write_json
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.runs import create_run, resume_run, save_config, values_of
from gfnet_env.training import (
    ClassifierConfig,
    ClassifierSchedule,
    NetworkOptions,
    RunOptions,
    train_classifier,
)
from gfnet_env.training.config import MAY_CHANGE, RunControl

_RESULTS = "results.json"
_STAGES = (1, 2, 3)
_DEFAULT = find_recipe("default")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(NetworkOptions, RunOptions):
    """What to train, on what, and how."""

    stages: tuple[int, ...] = _STAGES
    """Stages to run; what others would have made must be in the run folder."""
    stage1: ClassifierSchedule = _DEFAULT.stage1
    """Encoders and classifier, on random patches."""
    stage2: PolicySchedule = _DEFAULT.stage2
    """The policy."""
    stage3: ClassifierSchedule = _DEFAULT.stage3
    """Encoders and classifier, on the policy's patches."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)
        NetworkOptions.__post_init__(self)
        if not self.stages or not set(self.stages) <= set(_STAGES):
            raise ValueError(f"stages must be some of 1, 2 and 3, not {self.stages}")


def train_gfnet(
    config: PipelineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> EarlyExitGFNet | None:
    """Run the stages into ``RUN/stage1`` to ``RUN/stage3`` and evaluate into ``RUN/evaluation``.

    With ``config.resume``, stages that are complete are left alone and the one that was interrupted
    goes on.

    Args:
        config: What to train and how.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The assembled network of the last stage; None where no stage has assembled one.

    Raises:
        FileExistsError: The run folder exists, and neither overwriting nor resuming was asked for.
        FileNotFoundError: What a stage that is left out would have made is missing.
        RuntimeError: This is one of several processes.
        ValueError: A value is wrong, or the run to be resumed was begun with others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            "stage 2 learns in one process: launch train_classifier for stages 1 and 3 on several, "
            "or train_gfnet on one"
        )
    console = Console()
    if not (config.resume and resume_run(config.run, config, MAY_CHANGE | {"stages"})):
        create_run(config.run, overwrite=config.overwrite or config.resume)
        # What a run that is written over has left could be taken for this one's.
        later = range(min(config.stages), 4)
        for name in ("", *(f"stage{number}" for number in later)):
            (config.run / name / _RESULTS).unlink(missing_ok=True)
        save_config(config.run, config)
    stages: dict[str, Callable[[], object]] = {
        "stage1": lambda: train_classifier(_stage1(config), image_sets),
        "stage2": lambda: train_policy(_stage2(config), image_sets=image_sets),
        "stage3": lambda: train_classifier(_stage3(config), image_sets),
    }
    results: dict[str, Any] = {"stages": {}}
    if (config.run / _RESULTS).is_file():
        results = read_json(config.run / _RESULTS)
    for number, (name, run_stage) in enumerate(stages.items(), start=1):
        complete = (config.run / name / _RESULTS).is_file()
        if number in config.stages and not (config.resume and complete):
            started = time.monotonic()
            run_stage()
            results["stages"][name] = {
                **_accuracy(config.run / name),
                "seconds": round(time.monotonic() - started, 1),
            }
        elif complete:
            # The time of a stage that another process completed is not known.
            earlier = results["stages"].get(name, {"seconds": None})
            results["stages"][name] = earlier | _accuracy(config.run / name)
        write_json(config.run / _RESULTS, results)
        if name in results["stages"]:
            _print_stages(results["stages"], console)

    assembled = [name for name in ("stage3", "stage2") if name in results["stages"]]
    if not assembled:
        return None
    evaluation = EvaluationConfig(
        run=config.run / assembled[0],
        out=config.run / "evaluation",
        **values_of(config, ReadingOptions),
        seed=config.seed,
        device=config.device,
        overwrite=True,
    )
    started = time.monotonic()
    evaluate(evaluation, image_sets)
    results["evaluation_seconds"] = round(time.monotonic() - started, 1)
    write_json(config.run / _RESULTS, results)
    return EarlyExitGFNet.load(config.run / assembled[0])


def _stage1(config: PipelineConfig) -> ClassifierConfig:
    values = values_of(config, RunOptions) | values_of(config, NetworkOptions)
    values |= values_of(config.stage1, ClassifierSchedule) | {"run": config.run / "stage1"}
    return ClassifierConfig(**values)


def _stage2(config: PipelineConfig) -> PolicyConfig:
    return PolicyConfig(
        **values_of(config.stage2, PolicySchedule),
        run=config.run / "stage2",
        network=config.run / "stage1",
        **values_of(config, ReadingOptions),
        **values_of(config, RunControl),
        oracle_images=0,
        seed=config.seed,
    )


def _stage3(config: PipelineConfig) -> ClassifierConfig:
    begun: dict[str, Any] = {"policy": config.run / "stage2", "run": config.run / "stage3"}
    begun |= {"weights": None, "baseline": None, "object_share": 0.0}
    changes = values_of(config.stage3, ClassifierSchedule) | begun
    return dataclasses.replace(_stage1(config), **changes)


def _accuracy(folder: Path) -> dict[str, Any]:
    """Test accuracy after each step, on the patches that the stage has at its end."""
    results = read_json(folder / _RESULTS)
    if "policies" in results:
        return {"patches": "learned", "accuracy": results["policies"]["learned"]["accuracy"]}
    patches = "learned" if "learned" in results["accuracy"] else "random"
    return {"patches": patches, "accuracy": results["accuracy"][patches]}


def _print_stages(stages: Mapping[str, Any], console: Console) -> None:
    steps = max(len(stage["accuracy"]) for stage in stages.values())
    table = Table("stage", "patches", "glance", *(f"focus {n}" for n in range(1, steps)), "seconds")
    for name, stage in stages.items():
        accuracies = (f"{accuracy:.1%}" for accuracy in stage["accuracy"])
        seconds = "?" if stage["seconds"] is None else f"{stage['seconds']:.0f}"
        table.add_row(name, stage["patches"], *accuracies, seconds)
    console.print(table)
