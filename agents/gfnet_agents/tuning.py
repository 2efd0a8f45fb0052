"""Tuning: search the settings of a stage for the best accuracy on val, with Optuna.

The trials of a study are runs, in ``RUN/trials``. Processes share a study through its journal: any
number of them may work at once, and each goes on with what a killed one has left.
"""

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from gfnet_agents.config import DEFAULT, PARTS, PolicyConfig, PolicySchedule, part_control
from gfnet_agents.learners import LEARNERS
from gfnet_agents.search import CLASSIFIER_SEARCH, POLICY_SEARCH, Choice, Space, parse_search
from gfnet_agents.training import check_policy, train_policy
from gfnet_env.benchmarks.results import Result, rounded
from gfnet_env.console import PlainConsole, PlainTable
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import FeatureOptions
from gfnet_env.files import is_file, write_json, write_text
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet, is_assembled
from gfnet_env.matching import ImageOptions
from gfnet_env.models import GlanceFocusNetwork, Model
from gfnet_env.policies import Policy, RandomPolicy
from gfnet_env.runs import Run, RunControl, check_run, is_at_work, last_claimed
from gfnet_env.settings import AtLeast, Flat, Settings, all_settings, to_json
from gfnet_env.training import (
    ClassifierConfig,
    ClassifierSchedule,
    NetworkOptions,
    OnValidation,
    RunOptions,
    check_classifier,
    train_classifier,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL, BEST = "journal.log", "best.yaml"
# Trials before the first is ended early.
_UNPRUNED = 5
# Trials that are shown.
_SHOWN = 5
# Seconds until a trial that works in no folder is taken for one of a killed process.
_PATIENCE = 60.0

_Sets = Mapping[str, ImageSet] | None
_Stage = PolicyConfig | ClassifierConfig


@dataclass(frozen=True, kw_only=True)
class TuningConfig(Settings):
    """What to tune, on which images, and how."""

    run: Path
    """Folder for the study and its trials. The same command with --resume goes on with it, also
    while other processes work in it."""
    stage: Literal["policy", "classifier"] = "policy"
    """What to tune: the policy of stage 2, or encoders and classifier of stage 1."""
    search: tuple[str, ...] = ()
    """Settings and their values: learning_rate=1e-4..1e-2, n_steps=[4,8,16], …; those of the
    algorithm, or of the stage. By default the most important ones of the algorithm, or of stage
    1."""
    trials: Annotated[int, AtLeast(1)] = 20
    """Number of trials, in all processes together; the first has the settings as they are given."""
    pruning: bool = True
    """Whether to end a trial early whose accuracy on val is below the median of those before it."""
    network: Path | None = None
    """Folder of a trained network to tune a policy for; by default the packaged network."""
    stage1: ClassifierSchedule = field(default_factory=ClassifierSchedule)
    """Stage 1: encoders and classifier."""
    stage2: PolicySchedule = field(default_factory=PolicySchedule)
    """Stage 2: the policy."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    features: Flat[FeatureOptions] = field(default_factory=FeatureOptions)
    encoders: Flat[NetworkOptions] = field(default_factory=NetworkOptions)
    options: Flat[RunOptions] = field(default_factory=RunOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)

    def __post_init__(self) -> None:
        super().__post_init__()
        of_policy = {"network": self.network, "stage2": _changed(self.stage2)}
        of_classifier = {
            "stage1": _changed(self.stage1),
            **_changed(self.encoders),
            **_changed(self.options.replace(seed=0)),
        }
        for name, value in (of_classifier if self.stage == "policy" else of_policy).items():
            if value:
                raise ValueError(f"{name} does not matter to the {self.stage}; leave it out")

    def trial(self, chosen: Mapping[str, Any], folder: Path) -> _Stage:
        """The configuration of a trial with some settings, in a folder of its own."""
        common = self.images.given() | part_control(self.control)
        common |= {"run": folder, "seed": self.options.seed}
        if self.stage == "classifier":
            own = self.options.given() | self.encoders.given() | self.stage1.given()
            return ClassifierConfig.of(**own | dict(chosen) | common)
        schedule = self.stage2.with_defaults(DEFAULT.given())
        of_schedule = dict(schedule.items())
        learners = {name: value for name, value in chosen.items() if name not in of_schedule}
        assert schedule.algorithm is not None
        algorithm = _with_parameters(schedule.algorithm, learners)
        others = {name: value for name, value in chosen.items() if name in of_schedule}
        own = self.stage2.given() | self.features.given() | others | {"algorithm": algorithm}
        own |= {"oracle_images": 0} | ({} if self.network is None else {"network": self.network})
        return PolicyConfig.of(**own | common)


def _changed(settings: Settings, **needed: Any) -> dict[str, Any]:
    """The settings that differ from their defaults; ``needed`` have none."""
    defaults = dict(type(settings).of(**needed).items())
    return {name: value for name, value in settings.given().items() if value != defaults[name]}


@dataclass(frozen=True)
class TrialResult(Result):
    """A trial of a study.

    Attributes:
        number: Its number, and the name of its folder.
        state: ``complete``, ``pruned``, ``failed`` or ``running``.
        settings: What was chosen for it; nothing in the trial of the settings as given.
        accuracy: Accuracy on val after the last look; that of a pruned trial is its last.
        error: Why it failed.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    accuracy: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class TuningResult(Result):
    """All trials of a study, and the number of the best one."""

    trials: tuple[TrialResult, ...]
    best: int | None = None

    def ranked(self) -> list[TrialResult]:
        """The trials that are complete, the best first."""
        complete = [each for each in self.trials if each.state == "complete"]
        return sorted(complete, key=lambda each: each.accuracy or 0.0, reverse=True)


def tune(config: TuningConfig, image_sets: _Sets = None) -> dict[str, Any]:
    """Search the settings of a stage, and write the best into ``RUN/best.yaml``.

    Settings are chosen by their accuracy on ``val`` after the last look. ``RUN/results.json`` holds
    all trials.

    Args:
        config: What to tune and how.
        image_sets: Splits (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The settings of the best trial, as ``--config`` of the stage's command takes them.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        ImportError: Optuna is not installed.
        RuntimeError: No trial was complete.
        ValueError: A value is wrong, or the study to resume was begun with other values.
    """
    optuna = _optuna()
    space = search_space(config)
    check_run(config.run, config.control)
    _check(config, space, image_sets)
    trials = config.run / "trials"
    # The folder is not kept locked: other processes may work in it too.
    with Run.open(
        *(config.run, config, config.control),
        may_change={"trials", "pruning"},
        parts=[trials],
        files=[JOURNAL, BEST],
    ):
        study = _open(optuna, config)
        _enqueue_left_behind(study, trials)
    console = PlainConsole()

    def objective(trial: "Trial") -> float:
        return _objective(trial, config, space, image_sets, console)

    while len(_begun(study)) < config.trials:
        # Whoever goes on, or works at the same time, draws other settings.
        study.sampler = optuna.samplers.TPESampler(
            seed=config.options.seed + len(study.trials), multivariate=True, constant_liar=True
        )
        study.optimize(objective, n_trials=1, catch=(ValueError,))
        _write(study, config, space)
    return _conclude(study, config, space, console)


def search_space(config: TuningConfig) -> Space:
    """What is searched, and where; raises like ``parse_search``."""
    if config.stage == "classifier":
        known = _annotations(ClassifierSchedule) | _annotations(NetworkOptions)
        return parse_search(config.search, known, CLASSIFIER_SEARCH)
    algorithm = config.stage2.algorithm or DEFAULT.algorithm
    assert algorithm is not None
    known = _annotations(PolicySchedule)
    known |= {name: each.annotation for name, each in LEARNERS.parameters(algorithm).items()}
    # Other algorithms take other settings.
    del known["algorithm"]
    return parse_search(config.search, known, POLICY_SEARCH)


def _annotations(settings: type[Settings]) -> dict[str, Any]:
    return {each.name: each.hint for each in all_settings(settings)}


def _with_parameters(spec: str, values: Mapping[str, Any]) -> str:
    """The spec of a learner with some of its settings replaced."""
    if not values:
        return spec
    name, *rest = spec.split(":")
    if name not in LEARNERS:
        name = f"{name}:{rest[0]}"
    _, before = LEARNERS.parse(spec)
    items = (
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (before | dict(values)).items()
    )
    return f"{name}:{','.join(items)}"


def _check(config: TuningConfig, space: Space, image_sets: _Sets) -> None:
    """Build what the first trial needs, and check the ends of what is searched."""
    for name, values in space.items():
        if name in PARTS and isinstance(values, Choice):
            for value in values.values:
                # A file of options may say what to search, and must not import anything.
                PARTS[name].find(str(value).removesuffix("+stop"), trusted=False)
    folder = config.run / "trials" / "0"
    for place in (0, -1):
        ends = {name: each.ends[place] for name, each in space.items()}
        stage = config.trial(ends, folder)
        if isinstance(stage, PolicyConfig):
            LEARNERS.parse(stage.schedule.given()["algorithm"])
    stage = config.trial({}, folder)
    if isinstance(stage, PolicyConfig):
        check_policy(stage, None, image_sets)
    else:
        check_classifier(stage, image_sets)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("Optuna must be installed: pip install 'gfnet-env[tune]'") from error
    # It would print the traceback of a trial whose settings are refused; we say why.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _open(optuna: Any, config: TuningConfig) -> "Study":
    """The study in the run folder; a new one begins with the settings as they are given."""
    _check_journal(config.run / JOURNAL)
    journal = optuna.storages.journal.JournalFileBackend(str(config.run / JOURNAL))
    storage = optuna.storages.JournalStorage(journal)
    begun = optuna.study.get_all_study_names(storage)
    study = optuna.create_study(
        study_name="tune",
        storage=storage,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
        direction="maximize",
        load_if_exists=True,
    )
    if not begun:
        study.enqueue_trial({}, user_attrs={"as_given": True})
    return study


def _check_journal(journal: Path) -> None:
    """Raise ``ValueError`` if a line is not whole: a full disk cuts one off."""
    lines = journal.read_bytes().splitlines(keepends=True) if is_file(journal) else []
    for number, line in enumerate(lines, start=1):
        try:
            is_whole = isinstance(json.loads(line), dict) and line.endswith(b"\n")
        except ValueError:
            is_whole = False
        if not is_whole:
            raise ValueError(
                f"line {number} of {journal} is damaged; remove it if it is the last one, or "
                "restore the file from a copy"
            )


def _enqueue_left_behind(study: "Study", folder: Path) -> None:
    """Begin the trials of processes that are gone again; the study marks them as failed."""
    from optuna.trial import TrialState

    for name, trial in _latest(study).items():
        if trial.state == TrialState.RUNNING and not _is_alive(trial, folder / name):
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL or "error" in trial.user_attrs:
            continue
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs | {"folder": name})


def _is_alive(trial: "FrozenTrial", folder: Path) -> bool:
    """Whether a process works on a trial that is under way."""
    assert trial.datetime_start is not None
    begun = trial.datetime_start.timestamp()
    # The folder may be that of an earlier process: this one first looks at network and images.
    if last_claimed(folder) > begun:
        return is_at_work(folder)
    return time.time() - begun < _PATIENCE


def _folder(trial: "FrozenTrial | Trial") -> str:
    """The name of a trial's folder; one that goes on with another has that one's."""
    return str(trial.user_attrs.get("folder", trial.number))


def _latest(study: "Study") -> dict[str, "FrozenTrial"]:
    """The last trial in each folder."""
    return {_folder(trial): trial for trial in study.trials}


def _begun(study: "Study") -> dict[str, "FrozenTrial"]:
    """The last trial in each folder, unless it waits for a process."""
    return {name: each for name, each in _latest(study).items() if each.state.name != "WAITING"}


def _objective(
    trial: "Trial",
    config: TuningConfig,
    space: Space,
    image_sets: _Sets,
    console: PlainConsole,
) -> float:
    """Run a trial; its accuracy on val."""
    from optuna import TrialPruned

    given = trial.user_attrs.get("as_given", False)
    chosen = {} if given else {name: each.suggest(trial, name) for name, each in space.items()}
    folder = config.run / "trials" / _folder(trial)
    listed = ", ".join(f"{name}={_short(value)}" for name, value in chosen.items())
    console.rule(f"trial {_folder(trial)}: {listed or 'settings as given'}")

    def on_validation(steps: int, accuracy: float) -> None:
        trial.report(accuracy, steps)
        if config.pruning and trial.should_prune():
            raise TrialPruned(f"ended after {steps:,} steps, at {accuracy:.1%}")

    try:
        model, policy = _train(config.trial(chosen, folder), image_sets, on_validation)
    except TrialPruned as reason:
        console.print(str(reason))
        # A replay memory is large.
        Run(folder).checkpoints.clear()
        raise
    except ValueError as error:
        console.print(f"it failed: {error}")
        trial.set_user_attr("error", str(error))
        raise
    images = config.images.open_splits(model, image_sets, ["val"])["val"]
    accuracy = float(evaluate_policy(model, policy, images).accuracy[-1])
    console.print(f"accuracy on val {accuracy:.1%}")
    return accuracy


def _train(stage: _Stage, image_sets: _Sets, on_validation: OnValidation) -> tuple[Model, Policy]:
    """Train the stage of a trial; the network and its policy."""
    if isinstance(stage, PolicyConfig):
        gfnet = train_policy(stage, image_sets=image_sets, on_validation=on_validation)
        return gfnet.model, gfnet.policy
    network: GlanceFocusNetwork = train_classifier(stage, image_sets, on_validation)
    found = is_assembled(stage.run)
    return network, EarlyExitGFNet.load(stage.run).policy if found else RandomPolicy()


def _write(study: "Study", config: TuningConfig, space: Space) -> TuningResult:
    """Write all trials, and the settings of the best one."""
    trials = (_result(int(name), trial, space) for name, trial in _begun(study).items())
    results = TuningResult(tuple(trials))
    best = next(iter(results.ranked()), None)
    if best is not None:
        results = dataclasses.replace(results, best=best.number)
    write_json(config.run / "results.json", results.to_json())
    if best is not None:
        written = yaml.safe_dump(_settings(config, best), sort_keys=False, allow_unicode=True)
        write_text(config.run / BEST, written)
    return results


def _result(number: int, trial: "FrozenTrial", space: Space) -> TrialResult:
    states = {"FAIL": "failed"}
    last = trial.value
    if last is None and trial.last_step is not None:
        last = trial.intermediate_values[trial.last_step]
    return TrialResult(
        number,
        states.get(trial.state.name, trial.state.name.lower()),
        {name: space[name].read(value) for name, value in trial.params.items()},
        None if last is None else rounded(last),
        trial.user_attrs.get("error"),
    )


def _settings(config: TuningConfig, best: TrialResult) -> dict[str, Any]:
    """What ``--config`` of the stage's command takes."""
    changed = _changed(config.trial(best.settings, config.run), run=config.run)
    ours = {"oracle_images", *dict(RunControl().items())}
    return dict(to_json({name: changed[name] for name in changed if name not in ours}))


def _conclude(
    study: "Study", config: TuningConfig, space: Space, console: PlainConsole
) -> dict[str, Any]:
    """Show the best trials; the settings of the best one."""
    results = _write(study, config, space)
    ranked = results.ranked()
    if not ranked:
        errors = {each.error for each in results.trials if each.error}
        raise RuntimeError(f"no trial was complete; {'; '.join(sorted(errors)) or 'give more'}")
    table = PlainTable("trial", "val", *space)
    for each in ranked[:_SHOWN]:
        shown = (_short(each.settings.get(name, "as given")) for name in space)
        table.add_row(str(each.number), f"{each.accuracy:.1%}", *shown)
    console.print(table)
    command = "train-policy" if config.stage == "policy" else "train-classifier"
    console.print(f"use the best: gfnet {command} --config {config.run / BEST}")
    return _settings(config, ranked[0])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
