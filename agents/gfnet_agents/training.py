"""Stage 2: learn a policy, compare it with others, and assemble the early-exit network."""

import contextlib
import time
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gfnet_agents.config import PolicyConfig, complete
from gfnet_agents.curve import CURVE_FILE, LearningCurve, policy_of
from gfnet_agents.learners import LEARNERS, Learner, build_learner, checkpoint
from gfnet_env.benchmarks.advice import exit_advice
from gfnet_env.benchmarks.policies import (
    LEARNED,
    allowed_policies,
    choose_policies,
    compare_records,
    record_policies,
    some_of,
)
from gfnet_env.benchmarks.policy_report import plot_results, print_results
from gfnet_env.benchmarks.report import answers_sheet, draw_answers
from gfnet_env.benchmarks.results import PolicyResults
from gfnet_env.console import Bars, PlainConsole
from gfnet_env.env.sampling import Sampling
from gfnet_env.env.vector import GlanceFocusVectorEnv, open_model
from gfnet_env.features import COST_OPTIONS, FeatureOptions
from gfnet_env.images import ImageSet
from gfnet_env.inference import (
    EarlyExitGFNet,
    assemble,
    check_saveable_model,
    exit_costs,
    operating_point,
)
from gfnet_env.inference.budgets import spread
from gfnet_env.logs import RunLog
from gfnet_env.matching import check_fit, other_images
from gfnet_env.models import Model
from gfnet_env.planning import Plan, amount, count_images
from gfnet_env.policies import Policy, check_saveable
from gfnet_env.runs import Run, check_run, resolve_device
from gfnet_env.training import OnValidation
from gfnet_env.training.config import MAY_CHANGE

# Settings that do not affect what is learned.
_MAY_CHANGE = MAY_CHANGE | COST_OPTIONS | {"oracle_images", "curve_points", "curve_images"}
_SHEET_IMAGES = 24
_BUDGETS_SHOWN = 9
# Pictures in TensorBoard, and seconds to the first of them and between two.
_LOGGED_IMAGES, _FIRST_LOGGED, _BETWEEN_LOGGED = 12, 60.0, 300.0
# Most seconds of learning in a plan.
_TIMED = 10.0


def train_policy(
    config: PolicyConfig,
    *,
    model: Model | None = None,
    image_sets: Mapping[str, ImageSet] | None = None,
    on_validation: OnValidation | None = None,
) -> EarlyExitGFNet:
    """Learn a policy, compare it with others, and save the assembled network, which is returned.

    Args:
        config: What to learn and how.
        model: The model to look with, in place of ``config.network``.
        image_sets: Splits (``train``, ``val``, ``test``) in place of ``config.images``.
        on_validation: Called at each point of the learning curve with the steps so far and the
            accuracy on ``val`` after the last look; an exception from it ends the learning.

    Raises:
        FileExistsError: The run folder exists, and neither resuming nor overwriting was requested.
        FileNotFoundError: A folder is missing.
        ValueError: A value is wrong, or model and images do not fit.
    """
    console, started = PlainConsole(), time.monotonic()
    config = complete(config)
    device = resolve_device(config.control.device)
    assert config.run is not None
    check_run(config.run, config.control)
    opened = Run.open(
        *(config.run, config, config.control),
        may_change=_MAY_CHANGE,
        inputs=[config.network, config.continue_from],
        files=[CURVE_FILE],
    )
    if config.control.resume and Run(config.run).complete:
        with opened:
            console.print(f"{config.run} is complete; there is nothing to resume")
            return EarlyExitGFNet.load(config.run).to(device)
    sets, env, learner = _prepare(config, model, image_sets, console)
    with opened as run:
        _learn(config, env, learner, sets["val"], run, on_validation)
        gfnet = assemble(env.model, policy_of(learner, device), sets["val"])
        gfnet.save(run.folder)
        results = _compare(config, gfnet, sets["test"], console, learner.steps, started)
        run.finish(results)
    print_results(results, gfnet.model, console)
    console.print(f"{run.folder} holds the assembled network, results.json and pictures")
    return gfnet


def check_policy(
    config: PolicyConfig,
    model: Model | None = None,
    image_sets: Mapping[str, ImageSet] | None = None,
) -> EarlyExitGFNet:
    """Build everything that ``train_policy`` needs, and write nothing; raises like it.

    Returns:
        The model with the policy before it learns.
    """
    _, env, learner = _prepare(complete(config), model, image_sets, PlainConsole(quiet=True))
    return EarlyExitGFNet(env.model, policy_of(learner, env.model.device))


class _Enough(Exception):  # noqa: N818
    """Ends a learning that was only begun to time it."""


def plan_policy(
    config: PolicyConfig,
    model: Model | None = None,
    image_sets: Mapping[str, ImageSet] | None = None,
) -> Plan:
    """What ``train_policy`` would do and cost; see there for the arguments.

    It learns for up to ten seconds, with live features, and writes nothing.
    """
    config = complete(config)
    assert config.run is not None
    check_run(config.run, config.control)
    live = config.replace(features="live")
    sets, env, learner = _prepare(live, model, image_sets, PlainConsole(quiet=True))
    total = config.schedule.steps(len(env.images), env.focus_steps)
    started = time.perf_counter()

    def callback() -> None:
        # After some updates; those of learners with a replay memory begin late.
        if learner.steps >= total / 20 or time.perf_counter() - started > _TIMED:
            raise _Enough

    with contextlib.suppress(_Enough):
        learner.learn(callback)
    rate = learner.steps / (time.perf_counter() - started)
    glance, *looks = env.model.multiply_adds()
    figures = {
        "images": count_images(sets),
        "looks": f"{total:,}, in {env.num_envs} images at once",
        "multiply-adds": f"{amount(max(looks))} a look, {amount(glance)} a glance, which begins "
        f"an episode of at most {env.focus_steps} looks",
        "speed": f"{rate:,.0f} looks a second, in the first {learner.steps:,} with live features",
        "not timed": f"{config.curve_points} points of the learning curve, and the comparison of "
        "policies on the test images at the end",
    }
    return Plan(config, figures, total / rate)


def _prepare(
    config: PolicyConfig,
    model: Model | None,
    image_sets: Mapping[str, ImageSet] | None,
    console: Console,
) -> tuple[Mapping[str, ImageSet], GlanceFocusVectorEnv, Learner]:
    """Open model and images, and build the environment and the learner."""
    packaged = model is None and config.network is None
    model = open_model(model or config.network)
    model.to(resolve_device(config.control.device))
    if image_sets is None and packaged:
        _check_images(model, config.images.chosen(model)[0])
    sets = config.images.open_splits(model, image_sets)
    return sets, *_build(config, model, sets, console)


def _check_images(model: Model, spec: str) -> None:
    """Raise ``ValueError`` if the packaged network was trained on other images."""
    known = other_images(model.trained_on, spec)
    if known is not None:
        raise ValueError(
            f"the packaged network was trained on {known}, not on {spec}: train one on these "
            f"images (gfnet train-classifier --images {spec}) and give it with --network"
        )


def _build(
    config: PolicyConfig, model: Model, sets: Mapping[str, ImageSet], console: Console
) -> tuple[GlanceFocusVectorEnv, Learner]:
    """Build the learner and its environment, and check everything that could be wrong with them."""
    for each in sets.values():
        check_fit(model, each)
    check_saveable_model(model)
    given = config.schedule.given()
    images = sets[given["learn_from"]]
    named = ("actions", "reward", "look_cost", "exits", "observation", "focus_steps")
    timesteps = config.schedule.steps(len(images), given.get("focus_steps", model.focus_steps))
    env = GlanceFocusVectorEnv(
        given["num_envs"],
        model=model,
        images=images,
        features=config.features.source(),
        sampling=given.get("sampling") or _sampling(config.features, model, images, timesteps),
        autoreset_mode=LEARNERS.parse(given["algorithm"])[0].autoreset_mode,
        **{name: given[name] for name in named if name in given},
    )
    learner = build_learner(
        given["algorithm"],
        env,
        seed=config.seed,
        device=model.device,
        timesteps=timesteps,
        replay_gib=given["replay_gib"],
        announce=console.print,
    )
    try:
        check_saveable(policy_of(learner, model.device))
    except TypeError as error:
        raise ValueError(
            f"what {given['algorithm']!r} learns could not be saved: {error}"
        ) from error
    if config.continue_from is not None:
        learner.load(config.continue_from)
    return env, learner


def _sampling(features: FeatureOptions, model: Model, images: ImageSet, timesteps: int) -> Sampling:
    """See ``PolicySchedule.sampling``."""
    needed_anyway = features.keeps_glances(model, images) and timesteps >= 2 * len(images)
    return "uncertain-full" if needed_anyway else "uncertain"


def _learn(
    config: PolicyConfig,
    env: GlanceFocusVectorEnv,
    learner: Learner,
    images: ImageSet,
    run: Run,
    on_validation: OnValidation | None,
) -> None:
    """Learn, with checkpoints, a learning curve on some images, a log, and a progress bar."""
    checkpoint.restore(run.checkpoints, env, learner)
    timesteps = config.schedule.steps(len(env.images), env.focus_steps)
    shown = TextColumn("steps, return {task.fields[value]:.3f}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), shown)
    with (
        RunLog(
            run.folder, config.control.log, steps=learner.steps, settings=config.to_json()
        ) as log,
        Bars(*columns, TimeRemainingColumn()) as progress,
        run.interruptible(),
    ):
        bar = progress.add_task("stage 2", total=timesteps, value=0.0)
        curve = LearningCurve(
            *(env.model, images, learner, run.folder, log),
            count=config.curve_images,
            timesteps=timesteps,
            points=config.curve_points,
            on_validation=on_validation,
        )
        logged: Mapping[str, float] = learner.metrics
        pictures_due = time.monotonic() + _FIRST_LOGGED

        def callback() -> None:
            nonlocal logged, pictures_due
            if learner.metrics is not logged:
                logged = learner.metrics
                for name, value in logged.items():
                    log.add_scalar(name, value, learner.steps)
            # The last update may go beyond.
            steps, total = learner.steps, max(learner.steps, timesteps)
            progress.update(bar, completed=steps, total=total, value=learner.mean_return)
            curve.evaluate_if_due()
            if time.monotonic() >= pictures_due:
                _log_looks(env.model, policy_of(learner, env.model.device), images, steps, log)
                pictures_due = time.monotonic() + _BETWEEN_LOGGED
            if run.checkpoint_is_due:
                checkpoint.save(run, env, learner)

        learner.learn(callback)
        if learner.steps > timesteps:
            progress.console.print(
                f"The policy learned from {learner.steps:,} looks: {timesteps:,}, rounded up to "
                "whole updates"
            )
        # What comes after can be interrupted too.
        checkpoint.save(run, env, learner)
    learner.save(run.folder)


def _log_looks(model: Model, policy: Policy, images: ImageSet, steps: int, log: RunLog) -> None:
    """Log where a policy looks in a few pictures; draws no random numbers."""
    drawn = some_of(images, _LOGGED_IMAGES)
    answers = {"": EarlyExitGFNet(model, policy)(images, drawn)}
    sheet = np.asarray(answers_sheet(model, images, drawn, answers))
    log.add_picture("looks", sheet, steps)


def _compare(
    config: PolicyConfig,
    gfnet: EarlyExitGFNet,
    test: ImageSet,
    console: Console,
    steps: int,
    started: float,
) -> PolicyResults:
    """Compare the learned policy with others on the test split, and draw the results."""
    every = ("random", "center", "heat", LEARNED, "target", "oracle")
    names = allowed_policies(every, gfnet.model, test, config.oracle_images)
    policies = choose_policies(names, gfnet.policy, test, config.oracle_images)
    records = record_policies(gfnet.model, policies, test, config.oracle_images, console)
    learned = records[LEARNED]
    assert gfnet.budgets is not None
    assert config.run is not None
    shown = spread(gfnet.budgets.points, _BUDGETS_SHOWN)
    costs = exit_costs(learned.looks, gfnet.multiply_adds, gfnet.stop_multiply_adds)
    results = PolicyResults(
        split="test",
        images=len(test),
        environment_steps=steps,
        seconds=round(time.monotonic() - started, 1),
        multiply_adds=tuple(gfnet.multiply_adds),
        policies=compare_records(records, sources=test.sources),
        early_exit=tuple(operating_point(learned, costs, each.thresholds) for each in shown),
    )
    plot_results(results, config.run / "accuracy.png")
    drawn = some_of(test, _SHEET_IMAGES)
    answers = {"": gfnet(test, drawn)}
    draw_answers(gfnet.model, test, drawn, answers, config.run / "patches.png")
    console.print(*exit_advice(answers[""].exit_step.tolist(), gfnet.thresholds))
    return results
