"""Compare ways to stop looking at equal mean cost: confidence, expected gain, the policy's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from rich.console import Console
from torch import Tensor

from gfnet_env.benchmarks.report import millions
from gfnet_env.benchmarks.results import Difference, Interval, Result, interval_of, rounded
from gfnet_env.console import PlainConsole, PlainTable
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.exits import confidence
from gfnet_env.files import replacing, write_json
from gfnet_env.images import ImageSet
from gfnet_env.inference import (
    BudgetTable,
    EarlyExitGFNet,
    Method,
    assembled_in,
    exit_costs,
    exits_of,
    learn_certainty,
    operating_point,
    solve_budgets,
)
from gfnet_env.looks import Look
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models import Model, State
from gfnet_env.planning import Plan, plan_passes
from gfnet_env.policies.base import Context, Memory, Policy, as_looks, shown_to, start
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, AtMost, Flat, Seed, Settings

# Every step of all images of a split, and multiply-adds of each for an exit at each step, (N, T).
_Recorded = tuple[Record, npt.NDArray[np.int64]]

# What all others are compared with.
_REFERENCE = "confidence, geometric"
_METHODS: dict[str, tuple[Method, ...]] = {
    "confidence": ("geometric", "searched", "uniform"),
    "gain": ("uniform", "searched"),
}
_OWN = "own stop"


@dataclass(frozen=True, kw_only=True)
class ExitComparisonConfig(Settings):
    """Whose exits to compare."""

    run: Path
    """Run folder of an assembled network, or of all stages."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    out: Path | None = None
    """Folder for the results; by default RUN/exits."""
    budgets: Annotated[int, AtLeast(1), AtMost(1000)] = 5
    """Number of budgets, spread evenly between the glance and all looks."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""


@dataclass(frozen=True, kw_only=True)
class ExitPoint(Result):
    """Exits under a budget.

    Attributes:
        exits: What certainty is, and how thresholds were solved; or ``own stop``.
        budget: Mean multiply-adds per image on the calibration split, at most.
        multiply_adds: Mean multiply-adds per image on the test split.
        accuracy: Share of correct images.
        interval: Its 95% interval.
        over_confidence: Accuracy over geometric thresholds on confidence for the same budget.
    """

    exits: str
    budget: float
    multiply_adds: float
    accuracy: float
    interval: Interval
    over_confidence: Difference | None = None


@dataclass(frozen=True)
class ExitComparison(Result):
    """What ``compare_exits`` found on the test split."""

    images: int
    points: tuple[ExitPoint, ...]


def compare_exits(
    config: ExitComparisonConfig, image_sets: Mapping[str, ImageSet] | None = None
) -> ExitComparison:
    """Solve exits for the same budgets on the split val, and compare them on test.

    If the policy stops by itself, its mean cost is one more budget: the other exits meet it with
    the same policy kept from stopping.

    Args:
        config: What to compare.
        image_sets: Splits to use (``val``, ``test``) in place of ``config.images``.

    Raises:
        FileExistsError: Results exist already, and ``overwrite`` is off.
        ValueError: The network and the images do not fit together.
    """
    console = PlainConsole()
    gfnet = EarlyExitGFNet.load(assembled_in(config.run)).to(resolve_device(config.device))
    out = config.out or config.run / "exits"
    check_free(out, overwrite=config.overwrite)
    given = _open(config, gfnet.model, image_sets)
    with replacing(out) as new:
        save_config(new, config)
        compared = ExitComparison(len(given["test"]), tuple(_points(config, gfnet, given)))
        write_json(new / "results.json", compared.to_json())
    _print(compared, console)
    return compared


def plan_exits(config: ExitComparisonConfig) -> Plan:
    """What ``compare_exits`` would do and cost."""
    gfnet = EarlyExitGFNet.load(assembled_in(config.run)).to(resolve_device(config.device))
    check_free(config.out or config.run / "exits", overwrite=config.overwrite)
    # For each kind of certainty; learning one takes another pass.
    return plan_passes(config, gfnet, _open(config, gfnet.model, None), {"val": 3, "test": 2})


def _open(
    config: ExitComparisonConfig, model: Model, image_sets: Mapping[str, ImageSet] | None
) -> Mapping[str, ImageSet]:
    """The splits to solve and to compare on, which fit the model."""
    names = ("val", "test")
    sets = config.images.open_splits(model, image_sets, names)
    for name in names:
        check_fit(model, sets[name])
    return sets


@dataclass(frozen=True)
class _Solved:
    """Thresholds solved on one split, and the test split to try them on."""

    table: BudgetTable
    test: Record
    costs: npt.NDArray[np.int64]


def _points(
    config: ExitComparisonConfig, gfnet: EarlyExitGFNet, images: Mapping[str, ImageSet]
) -> Iterator[ExitPoint]:
    sources = images["test"].sources
    gfnet.certainty = confidence
    own = recorded = _recorded(gfnet, images)
    stops = bool((own["test"][0].looks < gfnet.model.focus_steps).any())
    if stops:
        gfnet.policy = _Untiring(gfnet.policy, gfnet.model)
        recorded = _recorded(gfnet, images)
    solved = dict(_solve(gfnet, images, recorded))
    first, *_, last = gfnet.multiply_adds
    shares = np.linspace(0, 1, config.budgets + 2)[1:-1]
    wanted: list[tuple[float, _Recorded | None]] = [
        (first + share * (last - first), None) for share in shares
    ]
    if stops:
        wanted.append((float(own["val"][1][:, -1].mean()), own["test"]))
    for budget, stopped in wanted:
        reference: npt.NDArray[np.bool_] | None = None
        found = {name: _exits(each, budget) for name, each in solved.items()}
        if stopped is not None:
            record, costs = stopped
            found[_OWN] = record.correct[:, -1], float(costs[:, -1].mean())
        for name, (correct, cost) in found.items():
            over = None if reference is None else correct.astype(int) - reference
            yield ExitPoint(
                exits=name,
                budget=float(budget),
                multiply_adds=cost,
                accuracy=rounded(correct.mean()),
                interval=interval_of(correct, sources, config.seed),
                over_confidence=None
                if over is None
                else Difference(rounded(over.mean()), interval_of(over, sources, config.seed)),
            )
            reference = correct if name == _REFERENCE else reference


def _solve(
    gfnet: EarlyExitGFNet, images: Mapping[str, ImageSet], recorded: Mapping[str, _Recorded]
) -> Iterator[tuple[str, _Solved]]:
    """All exits, by name, the reference first; ``recorded`` has the confidence as its signal."""
    for certainty, methods in _METHODS.items():
        if certainty == "gain":
            learn_certainty(gfnet, images["val"])
            recorded = _recorded(gfnet, images)
        for method in methods:
            table = solve_budgets(*recorded["val"], method)
            yield f"{certainty}, {method}", _Solved(table, *recorded["test"])


def _recorded(gfnet: EarlyExitGFNet, images: Mapping[str, ImageSet]) -> dict[str, _Recorded]:
    """Each split, with the network's certainty as the signal."""
    recorded = {}
    for name in ("val", "test"):
        record = evaluate_policy(gfnet.model, gfnet.policy, images[name], signal=gfnet.certainty)
        costs = exit_costs(record.looks, gfnet.multiply_adds, gfnet.stop_multiply_adds)
        recorded[name] = record, costs
    return recorded


def _exits(solved: _Solved, budget: float) -> tuple[npt.NDArray[np.bool_], float]:
    """Whether each test image is correct under a budget, and the mean cost."""
    thresholds = solved.table.within(budget).thresholds
    point = operating_point(solved.test, solved.costs, thresholds)
    return solved.test.correct_at(exits_of(solved.test, thresholds)), point.multiply_adds


class _Untiring:
    """A policy kept from stopping."""

    def __init__(self, policy: Policy, model: Model) -> None:
        self._policy, self.observation, self.actions = policy, shown_to(policy, model), self

    def start(self, context: Context) -> Memory:
        return start(self._policy, context)

    def __call__(
        self, observation: Mapping[str, Tensor], memory: Memory
    ) -> tuple[Look | Tensor, Memory]:
        decided, memory = self._policy(observation, memory)
        if isinstance(decided, Look):
            decided = Look.at(decided.location, decided.scale)
        return decided, memory

    def looks(self, actions: Tensor, state: State) -> Look:
        """The looks of actions, of which none stops."""
        looks = as_looks(self._policy, actions, state)
        return Look.at(looks.location, looks.scale)


def _print(compared: ExitComparison, console: Console) -> None:
    table = PlainTable(title=f"exits on {compared.images} test images")
    for heading in ("exits", "budget", "multiply-adds", "accuracy", "over confidence"):
        table.add_column(heading, justify="left" if heading == "exits" else "right")
    for point in compared.points:
        over = point.over_confidence
        table.add_row(
            point.exits,
            millions(point.budget),
            millions(point.multiply_adds),
            f"{point.accuracy:.1%}",
            "" if over is None else _shown(over),
        )
    console.print(table)


def _shown(difference: Difference) -> str:
    bounds = (difference.difference, *difference.interval)
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in bounds))
