"""Run all three stages and the evaluation, one after the other."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gfnet_agents.config import DEFAULT, PolicyConfig, PolicySchedule, part_control
from gfnet_agents.recipes import find_recipe
from gfnet_agents.training import check_policy, plan_policy, train_policy
from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.benchmarks.report import step_names
from gfnet_env.benchmarks.results import Result
from gfnet_env.console import PlainConsole, PlainTable
from gfnet_env.files import write_json
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet, is_assembled
from gfnet_env.matching import ImageOptions
from gfnet_env.models import GlanceFocusNetwork, Model
from gfnet_env.planning import Plan, duration
from gfnet_env.runs import Run, RunControl, check_run, dated_folder
from gfnet_env.settings import Flat, Settings, checked
from gfnet_env.training import (
    ClassifierConfig,
    ClassifierSchedule,
    NetworkOptions,
    RunOptions,
    check_classifier,
    plan_classifier,
    train_classifier,
)
from gfnet_env.training.config import MAY_CHANGE

_STAGES = (1, 2, 3)
_OF_STAGE_1 = ("encoder", "weights")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(Settings):
    """What to train, on which images, and how."""

    run: Path
    """Folder for the stages and the evaluation."""
    stages: tuple[int, ...] = _STAGES
    """Stages to run; the run folder must hold the results of the other stages."""
    stage1: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    """Stage 1: encoders and classifier, on random looks."""
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    """Stage 2: the policy."""
    stage3: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    """Stage 3: encoders and classifier, on the looks of the policy."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    network: Flat[NetworkOptions] = field(default_factory=NetworkOptions)
    options: Flat[RunOptions] = field(default_factory=RunOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages or not set(self.stages) <= set(_STAGES):
            raise ValueError(f"stages must be some of 1, 2 and 3, not {self.stages}")

    def resolved(self) -> Self:
        """A copy, completed with the library's defaults."""
        whole = find_recipe("default").complete(self)
        first = ClassifierConfig.of(**whole._stage1()).resolved()
        whole = whole.with_defaults(first.given(), {"stage2": DEFAULT.given()})
        return whole.replace(stage1=whole.stage1.resolved(), stage3=whole.stage3.resolved())

    def stage_config(self, number: int) -> ClassifierConfig | PolicyConfig:
        """The configuration of one stage."""
        common = self.images.reading.given() | part_control(self.control)
        common |= {"run": self.run / f"stage{number}", "seed": self.options.seed}
        if number == 1:
            return ClassifierConfig.of(**self._stage1() | common)
        if number == 2:
            own = {"network": self.run / "stage1", "oracle_images": 0}
            return PolicyConfig.of(**self.stage2.given() | common | own)
        values = self.images.given() | self.options.given() | self.stage3.given() | common
        # The network comes from the policy's run.
        values = {name: value for name, value in values.items() if name not in _OF_STAGE_1}
        return ClassifierConfig.of(**values, policy=self.run / "stage2")

    def _stage1(self) -> dict[str, Any]:
        values = self.images.given() | self.options.given() | self.network.given()
        return values | self.stage1.given() | {"run": self.run}


@dataclass(frozen=True)
class StageResult(Result):
    """The results of a stage.

    Attributes:
        patches: The looks that the accuracy was measured with: ``random``, ``heat`` or ``learned``.
        accuracy: Accuracy on the test split, per step.
        seconds: Duration; None if another process completed the stage.
    """

    patches: str
    accuracy: tuple[float, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class _OfPolicy(Result):
    """What a stage found of a policy."""

    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class _OfStage(Result):
    """What a stage found: of policies that it compared (stage 2), or for each kind of looks."""

    policies: Mapping[str, _OfPolicy] | None = None
    accuracy: Mapping[str, tuple[float, ...]] | None = None


@dataclass(frozen=True)
class PipelineResult(Result):
    """The results of the stages, by name, and the duration of the evaluation."""

    stages: Mapping[str, StageResult]
    evaluation_seconds: float | None = None


def train_gfnet(
    config: PipelineConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> EarlyExitGFNet | None:
    """Run the stages into ``RUN/stage1`` to ``RUN/stage3`` and evaluate into ``RUN/evaluation``.

    With ``config.control.resume``, complete stages stay as they are and an interrupted one
    continues.

    Args:
        config: What to train and how.
        image_sets: Splits (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The assembled network of the last stage; None if no stage has assembled one.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        FileNotFoundError: The results of a stage that is left out are missing.
        RuntimeError: This is one of several processes.
        ValueError: A value is wrong, or the run to resume was begun with other values.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            "stage 2 learns in one process: launch train_classifier for stages 1 and 3 on several, "
            "or train_gfnet on one"
        )
    config = find_recipe("default").complete(config)
    check_run(config.run, config.control)
    check_gfnet(config, image_sets)
    parts = [config.run / f"stage{number}" for number in range(min(config.stages), 4)]
    may_change = MAY_CHANGE | {"stages"}
    with Run.open(config.run, config, config.control, may_change=may_change, parts=parts) as run:
        written = run.folder / "results.json"
        stages = dict(PipelineResult.read(written).stages) if run.complete else {}
        for number in _STAGES:
            stages |= _run_stage(config, number, stages, image_sets)
            write_json(written, PipelineResult(stages).to_json())
        folder = assembled(run.folder)
        if folder is None:
            return None
        seconds = _evaluate(config, folder, image_sets)
        run.finish(PipelineResult(stages, seconds))
        return EarlyExitGFNet.load(folder)


def fit(
    images: str | Mapping[str, ImageSet], run: str | Path | None = None, **settings: Any
) -> EarlyExitGFNet:
    """Train, evaluate and assemble a network; ``train_gfnet`` with everything else by default.

    Args:
        images: Spec of the images, such as ``folder:PATH``, or the splits ``train``, ``val`` and
            ``test``.
        run: Folder for the stages and the evaluation; by default runs/gfnet-DATE-TIME.
        **settings: Other settings of ``PipelineConfig``: ``encoder``, ``weights``, ``patch_size``,
            ``stage1={"epochs": 4}``, …

    Returns:
        The assembled network.

    Raises:
        ValueError: A setting is unknown or wrong.
    """
    sets = images if isinstance(images, Mapping) else None
    if sets is None:
        settings["images"] = checked("images", images, str)
    folder = dated_folder("gfnet") if run is None else run
    gfnet = train_gfnet(PipelineConfig.of(**settings, run=folder), sets)
    if gfnet is None:
        raise ValueError("these stages assemble no network; leave out stages")
    return gfnet


def plan_gfnet(config: PipelineConfig) -> Plan:
    """What ``train_gfnet`` would do and cost, apart from its evaluation."""
    config = config.resolved()
    check_run(config.run, config.control)
    figures, total = dict[str, str](), 0.0
    model: Model | None = None
    begun: EarlyExitGFNet | None = None
    for number in sorted(config.stages):
        stage = config.stage_config(number)
        if isinstance(stage, PolicyConfig):
            model = model or GlanceFocusNetwork.load(config.run / "stage1")
            begun, plan = check_policy(stage, model), plan_policy(stage, model)
        else:
            model, plan = check_classifier(stage, None, begun), plan_classifier(stage, None, begun)
        figures |= {f"stage {number}, {name}": text for name, text in plan.figures.items()}
        figures[f"stage {number}, time"] = duration(plan.seconds or 0.0)
        total += plan.seconds or 0.0
    return Plan(config, figures, total)


def check_gfnet(config: PipelineConfig, image_sets: Mapping[str, ImageSet] | None = None) -> None:
    """Build all stages that ``train_gfnet`` is to run, and write nothing; raises like it.

    Args:
        config: What to train and how, completed by a recipe.
        image_sets: See ``train_gfnet``.
    """
    folders = {number: config.run / f"stage{number}" for number in _STAGES}
    left = {
        number
        for number in config.stages
        if not (config.control.resume and Run(folders[number]).complete)
    }
    model: Model | None = None
    begun: EarlyExitGFNet | None = None
    for number in sorted(left):
        stage = config.stage_config(number)
        if isinstance(stage, PolicyConfig):
            model = model or GlanceFocusNetwork.load(folders[1])
            begun = check_policy(stage, model, image_sets)
        else:
            model = check_classifier(stage, image_sets, begun)


def assembled(folder: Path) -> Path | None:
    """The run folder of the last stage that is complete and has a policy, or None.

    Stage 1 has one if its network has a where-map.
    """
    stages = (folder / f"stage{number}" for number in reversed(_STAGES))
    return next((each for each in stages if Run(each).complete and is_assembled(each)), None)


def _run_stage(
    config: PipelineConfig,
    number: int,
    before: Mapping[str, StageResult],
    image_sets: Mapping[str, ImageSet] | None,
) -> dict[str, StageResult]:
    """Run a stage unless it is complete or left out; returns its result by name, if complete."""
    name, run = f"stage{number}", Run(config.run / f"stage{number}")
    seconds = before[name].seconds if name in before else None
    if number in config.stages and not run.complete:
        started = time.monotonic()
        stage = config.stage_config(number)
        if isinstance(stage, PolicyConfig):
            train_policy(stage, image_sets=image_sets)
        else:
            train_classifier(stage, image_sets)
        seconds = round(time.monotonic() - started, 1)
    if not run.complete:
        return {}
    found = {name: StageResult(*_accuracy(run), seconds)}
    _print_stages({**before, **found})
    return found


def _evaluate(
    config: PipelineConfig, folder: Path, image_sets: Mapping[str, ImageSet] | None
) -> float:
    """Evaluate an assembled network; returns the seconds that this takes."""
    started = time.monotonic()
    PlainConsole().print(f"These figures count: they are of the final network, from {folder.name}")
    evaluation = EvaluationConfig.of(
        run=folder,
        out=config.run / "evaluation",
        **config.images.reading.given(),
        seed=config.options.seed,
        device=config.control.device,
        overwrite=True,
    )
    evaluate(evaluation, image_sets)
    return round(time.monotonic() - started, 1)


def _accuracy(run: Run) -> tuple[str, tuple[float, ...]]:
    """The looks that a stage ends with, and the test accuracy per step on them."""
    written = run.folder / "results.json"
    found = _OfStage.read(written)
    names, known = ["learned", "heat", "random"], found.accuracy or {}
    if found.policies is not None:
        names = ["learned"]
        known = {name: each.accuracy for name, each in found.policies.items()}
    patches = next((name for name in names if known.get(name)), None)
    if patches is None:
        raise ValueError(f"{written} has no accuracy of {' or '.join(names)} looks; make it anew")
    return patches, known[patches]


def _print_stages(stages: Mapping[str, StageResult]) -> None:
    names = step_names(max(len(stage.accuracy) for stage in stages.values()))
    table = PlainTable("stage", "looks", *names, "seconds")
    for name, stage in stages.items():
        accuracies = (f"{accuracy:.1%}" for accuracy in stage.accuracy)
        seconds = "?" if stage.seconds is None else f"{stage.seconds:.0f}"
        table.add_row(name, stage.patches, *accuracies, seconds)
    PlainConsole().print(table)
