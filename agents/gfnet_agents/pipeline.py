"""All three stages and the evaluation, one after the other."""

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from gfnet_agents.recipes import find_recipe
from gfnet_agents.training import DEFAULT, PolicyConfig, PolicySchedule, train_policy
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.benchmarks.results import Result
from gfnet_env.files import write_json
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import Run, RunControl
from gfnet_env.settings import Flat, Settings
from gfnet_env.training import (
    ClassifierConfig,
    ClassifierSchedule,
    NetworkOptions,
    RunOptions,
    train_classifier,
)
from gfnet_env.training.config import MAY_CHANGE

_STAGES = (1, 2, 3)
_OF_STAGE_1 = ("encoder", "weights")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(Settings):
    """What to train, on what, and how."""

    run: Path
    """Folder for the stages and the evaluation."""
    stages: tuple[int, ...] = _STAGES
    """Stages to run; what others would have made must be in the run folder."""
    stage1: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    """Encoders and classifier, on random looks."""
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    """The policy."""
    stage3: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    """Encoders and classifier, on the looks of the policy."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    network: Flat[NetworkOptions] = field(default_factory=NetworkOptions)
    options: Flat[RunOptions] = field(default_factory=RunOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages or not set(self.stages) <= set(_STAGES):
            raise ValueError(f"stages must be some of 1, 2 and 3, not {self.stages}")

    def resolved(self) -> Self:
        """The same with the library's defaults for what was not given."""
        whole = find_recipe("default").complete(self)
        first = ClassifierConfig.of(**whole._stage1()).resolved()
        whole = whole.with_defaults(first.given(), {"stage2": DEFAULT.given()})
        return whole.replace(stage1=whole.stage1.resolved(), stage3=whole.stage3.resolved())

    def stage_config(self, number: int) -> ClassifierConfig | PolicyConfig:
        """The configuration of one stage."""
        common = self.images.reading.given() | self.control.given()
        common |= {"run": self.run / f"stage{number}", "seed": self.options.seed}
        # Whether the stages begin anew, the folder of all says.
        common |= {"resume": True, "overwrite": False}
        if number == 1:
            return ClassifierConfig.of(**self._stage1() | common)
        if number == 2:
            own = {"network": self.run / "stage1", "oracle_images": 0}
            return PolicyConfig.of(**self.stage2.given() | common | own)
        values = self.images.given() | self.options.given() | self.stage3.given() | common
        # The network is that of the policy.
        values = {name: value for name, value in values.items() if name not in _OF_STAGE_1}
        return ClassifierConfig.of(**values, policy=self.run / "stage2")

    def _stage1(self) -> dict[str, Any]:
        values = self.images.given() | self.options.given() | self.network.given()
        return values | self.stage1.given() | {"run": self.run}


@dataclass(frozen=True)
class StageResult(Result):
    """What a stage gave.

    Attributes:
        patches: Whose looks the accuracy is of, random or learned.
        accuracy: On the test split, one per step.
        seconds: That it took; None where another process completed it.
    """

    patches: str
    accuracy: tuple[float, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class PipelineResult(Result):
    """What the stages gave, by name, and how long the evaluation took."""

    stages: Mapping[str, StageResult]
    evaluation_seconds: float | None = None


def train_gfnet(
    config: PipelineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> EarlyExitGFNet | None:
    """Run the stages into ``RUN/stage1`` to ``RUN/stage3`` and evaluate into ``RUN/evaluation``.

    With ``config.control.resume``, stages that are complete are left alone and the one that was
    interrupted goes on.

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
    config = find_recipe("default").complete(config)
    later = [config.run / f"stage{number}" for number in range(min(config.stages), 4)]
    with Run.open(
        config.run, config, config.control, may_change=MAY_CHANGE | {"stages"}, parts=later
    ) as run:
        saved = run.results if run.complete else {"stages": {}}
        results = PipelineResult.from_json(saved)
        for number in _STAGES:
            results = _run_stage(config, number, results, image_sets, console)
            write_json(run.folder / "results.json", results.to_json())
        assembled = [name for name in ("stage3", "stage2") if name in results.stages]
        if not assembled:
            return None
        started = time.monotonic()
        _evaluate(config, run.folder / assembled[0], image_sets)
        taken = round(time.monotonic() - started, 1)
        run.finish(dataclasses.replace(results, evaluation_seconds=taken))
        return EarlyExitGFNet.load(run.folder / assembled[0])


def _run_stage(
    config: PipelineConfig,
    number: int,
    results: PipelineResult,
    image_sets: Mapping[str, ImageSet] | None,
    console: Console,
) -> PipelineResult:
    """Run a stage unless it is complete or left out; the results with those of the stage."""
    name, run = f"stage{number}", Run(config.run / f"stage{number}")
    seconds = results.stages[name].seconds if name in results.stages else None
    if number in config.stages and not run.complete:
        started = time.monotonic()
        stage = config.stage_config(number)
        if isinstance(stage, PolicyConfig):
            train_policy(stage, image_sets=image_sets)
        else:
            train_classifier(stage, image_sets)
        seconds = round(time.monotonic() - started, 1)
    if not run.complete:
        return results
    stages = {**results.stages, name: StageResult(*_accuracy(run), seconds)}
    _print_stages(stages, console)
    return PipelineResult(stages)


def _evaluate(
    config: PipelineConfig, folder: Path, image_sets: Mapping[str, ImageSet] | None
) -> None:
    evaluation = EvaluationConfig.of(
        run=folder,
        out=config.run / "evaluation",
        **config.images.reading.given(),
        seed=config.options.seed,
        device=config.control.device,
        overwrite=True,
    )
    evaluate(evaluation, image_sets)


def _accuracy(run: Run) -> tuple[str, tuple[float, ...]]:
    """Test accuracy after each step, on the looks that the stage has at its end, and whose."""
    results = run.results
    if "policies" in results:
        return "learned", tuple(results["policies"]["learned"]["accuracy"])
    patches = "learned" if "learned" in results["accuracy"] else "random"
    return patches, tuple(results["accuracy"][patches])


def _print_stages(stages: Mapping[str, StageResult], console: Console) -> None:
    steps = max(len(stage.accuracy) for stage in stages.values())
    table = Table("stage", "patches", "glance", *(f"look {n}" for n in range(1, steps)), "seconds")
    for name, stage in stages.items():
        accuracies = (f"{accuracy:.1%}" for accuracy in stage.accuracy)
        seconds = "?" if stage.seconds is None else f"{stage.seconds:.0f}"
        table.add_row(name, stage.patches, *accuracies, seconds)
    console.print(table)
