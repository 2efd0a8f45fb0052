import itertools
import json
from typing import get_args

import numpy as np
import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.exits.thresholds import NEVER
from gfnet_env.inference import (
    BudgetTable,
    LatencyTable,
    Method,
    OperatingPoint,
    assemble,
    calibrate,
    early_exit,
    exit_costs,
    measure_latency,
    operating_point,
    solve_budgets,
)
from gfnet_env.policies import CenterPolicy, LearnedPolicy

STEP_COSTS = [10, 25, 40, 55]


def record_of(looks):
    """Steps of 4,000 images that grow surer, and right about as often as they are sure."""
    rng = np.random.default_rng(0)
    confidence = np.sort(rng.random((4000, 4)).astype(np.float32), axis=1)
    correct = rng.random((4000, 4)) < confidence
    for step in range(1, 4):
        stopped = looks < step
        confidence[stopped, step] = confidence[stopped, step - 1]
        correct[stopped, step] = correct[stopped, step - 1]
    nothing = np.zeros((4000, 3), dtype=np.float32)
    locations = np.zeros((4000, 3, 2), dtype=np.float32)
    return Record(
        np.arange(4000), correct, confidence, confidence, locations, nothing, looks, confidence
    )


@pytest.fixture(scope="module")
def record():
    return record_of(np.full(4000, 3))


COSTS = exit_costs(np.full(4000, 3), STEP_COSTS, 2)


@pytest.fixture(scope="module")
def tables(record):
    """The points of every method."""
    return {method: solve_budgets(record, COSTS, method).points for method in get_args(Method)}


@pytest.fixture
def gfnet(network, digits):
    gfnet = EarlyExitGFNet(network, CenterPolicy())
    calibrate(gfnet, digits)
    return gfnet


@pytest.fixture
def stopping(network, digits):
    """A network whose policy stops at about every other image, step by step."""
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), actions="continuous+stop")
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5)
    policy.actor[-1].bias.data[-1] = 0.4
    return assemble(network, policy, digits)


def test_costs_end_where_the_policy_stops():
    costs = exit_costs(np.array([0, 1, 3]), STEP_COSTS, 2)
    assert costs.tolist() == [[10, 12, 12, 12], [10, 25, 27, 27], STEP_COSTS]


@pytest.mark.parametrize("method", get_args(Method))
def test_tables_rise_in_cost_from_the_glance(record, tables, method):
    points = tables[method]
    costs = [point.multiply_adds for point in points]
    assert costs == sorted(costs)
    assert costs[0] == STEP_COSTS[0]
    assert all(point == operating_point(record, COSTS, point.thresholds) for point in points)


def test_geometric_tables_leave_no_gap(record, tables):
    assert solve_budgets(record, COSTS).points == tables["geometric"]
    costs = [point.multiply_adds for point in tables["geometric"]]
    assert costs[-1] == STEP_COSTS[-1]
    assert max(np.diff(np.log(costs))) < 0.025


def test_searched_tables_leave_no_gap_that_more_cost_would_fill(tables):
    points = tables["searched"]
    for below, above in itertools.pairwise(points):
        # Between two neighbours of the table there are costs, but no accuracy to be had.
        assert above.multiply_adds / below.multiply_adds < 1.05
    geometric = tables["geometric"]
    assert points[-1].accuracy >= max(point.accuracy for point in geometric)


@pytest.mark.parametrize("method", get_args(Method))
def test_tables_of_policies_that_stop_end_where_they_do(method):
    looks = np.random.default_rng(1).integers(0, 4, 4000)
    record, costs = record_of(looks), exit_costs(looks, STEP_COSTS, 2)
    points = solve_budgets(record, costs, method).points
    assert points[0].multiply_adds == STEP_COSTS[0]
    assert points[-1].multiply_adds <= costs[:, -1].mean()
    assert max(points[-1].exit_share) < 0.5
    all_at_once = np.zeros(4000, dtype=np.int64)
    costs = exit_costs(all_at_once, STEP_COSTS, 0)
    points = solve_budgets(record_of(all_at_once), costs, method).points
    assert {point.multiply_adds for point in points} == {10.0}


def test_budgets_of_searched_tables_are_not_exceeded(gfnet, digits):
    points = calibrate(gfnet, digits, "searched").points
    low, high = gfnet.multiply_adds[0], gfnet.multiply_adds[-1]
    for budget in np.linspace(low, high, 7):
        gfnet.set_budget(multiply_adds=budget)
        spent = gfnet.classify(digits).multiply_adds.double().mean()
        assert spent <= budget + (high - low) / 40
    assert gfnet.thresholds == points[-1].thresholds


def test_searched_thresholds_are_at_least_as_accurate(tables):
    geometric, searched = tables["geometric"], tables["searched"]
    for point in geometric:
        within = [other for other in searched if other.multiply_adds <= point.multiply_adds]
        assert within[-1].accuracy >= point.accuracy
    assert all(np.diff([point.accuracy for point in searched]) > 0)


def test_an_unknown_method_is_named(record):
    with pytest.raises(ValueError, match="unknown method 'best': geometric or searched"):
        solve_budgets(record, COSTS, "best")


def test_budgets_are_spent(gfnet, digits):
    low, high = gfnet.multiply_adds[0], gfnet.multiply_adds[-1]
    for budget in np.linspace(low, high, 7):
        point = gfnet.set_budget(multiply_adds=budget)
        assert point.thresholds == gfnet.thresholds
        assert point.multiply_adds == pytest.approx(budget)
        spent = gfnet.classify(digits).multiply_adds.double().mean()
        # One image of forty more or less exits where confidences lie apart.
        assert spent == pytest.approx(budget, abs=(high - low) / 40)
    gfnet.set_budget(multiply_adds=10 * high)
    assert gfnet.classify(digits).exit_step.tolist() == [3] * 40


@pytest.mark.parametrize("kind", ["gfnet", "stopping"])
def test_an_operating_point_is_what_the_network_does(kind, digits, request):
    gfnet = request.getfixturevalue(kind)
    record = evaluate_policy(gfnet.model, gfnet.policy, digits)
    costs = exit_costs(record.looks, gfnet.multiply_adds, gfnet.stop_multiply_adds)
    assert (kind == "stopping") == (len(set(record.looks.tolist())) > 1)
    for point in gfnet.budgets.points[::20]:
        gfnet.set_thresholds(point.thresholds)
        prediction = gfnet.classify(digits, batch_size=16)
        assert point == operating_point(record, costs, point.thresholds)
        assert point.accuracy == (prediction.classes == digits.labels).double().mean()
        assert point.multiply_adds == prediction.multiply_adds.double().mean()
        share = np.bincount(prediction.exit_step, minlength=4) / 40
        assert point.exit_share == tuple(share.tolist())


def test_assembled_thresholds_are_those_of_the_chosen_point(network, digits):
    gfnet = assemble(network, CenterPolicy(), digits, batch_size=16)
    assert gfnet.thresholds == gfnet.budgets.cheapest().thresholds


def test_the_table_travels_with_the_network(gfnet, tmp_path):
    gfnet.save(tmp_path)
    loaded = EarlyExitGFNet.load(tmp_path)
    assert loaded.budgets == gfnet.budgets
    budget = 1.5 * gfnet.multiply_adds[0]
    assert loaded.set_budget(multiply_adds=budget) == gfnet.set_budget(multiply_adds=budget)
    # Networks that were never calibrated, or saved before there were tables, have none.
    (tmp_path / "gfnet.json").write_text(json.dumps({"thresholds": [0] * 4}))
    assert EarlyExitGFNet.load(tmp_path).budgets is None


_SHORT = {"thresholds": [0], "accuracy": 1, "multiply_adds": 1, "exit_share": [1]}


@pytest.mark.parametrize(
    ("part", "damaged"),
    [
        *(("thresholds", each) for each in (None, 5, [None] * 4, ["a"] * 4, [0.5])),
        *(("budgets", each) for each in ([{}], [{"thresholds": "x"}], [1], {"a": 1}, [_SHORT])),
    ],
)
def test_what_is_damaged_is_named(gfnet, tmp_path, part, damaged):
    gfnet.save(tmp_path)
    # As 0.1 saved it, without digests.
    saved = {"thresholds": [0] * 4, "budgets": []} | {part: damaged}
    (tmp_path / "gfnet.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"the {part} in .*gfnet\.json are damaged"):
        EarlyExitGFNet.load(tmp_path)


def test_another_policy_needs_its_own_table(gfnet):
    gfnet.latency = LatencyTable((1, 2, 3, 4), gfnet.model.device)
    gfnet.policy = CenterPolicy()
    assert gfnet.budgets is None
    assert gfnet.latency is None
    with pytest.raises(RuntimeError, match="call calibrate"):
        gfnet.set_budget(multiply_adds=1e9)


def test_wrong_budgets_change_nothing(gfnet):
    gfnet.set_thresholds([0.1, 0.2, 0.3, 0])
    glance = gfnet.multiply_adds[0]
    for budget in (0.99 * glance, 0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"the glance alone costs {glance:,}"):
            gfnet.set_budget(multiply_adds=budget)
    for wrong in ({}, {"multiply_adds": 1e9, "milliseconds": 1}):
        with pytest.raises(ValueError, match="either in multiply_adds or in milliseconds"):
            gfnet.set_budget(**wrong)
    with pytest.raises(RuntimeError, match="call measure_latency"):
        gfnet.set_budget(milliseconds=5)
    gfnet.latency = LatencyTable((1, 2, 3, 4), torch.device("meta"))
    with pytest.raises(RuntimeError, match="no latency is known on cpu"):
        gfnet.set_budget(milliseconds=5)
    assert gfnet.thresholds == (0.1, 0.2, 0.3, 0)


def test_budgets_in_time_go_by_measured_exits(gfnet, digits, monkeypatch):
    # A clock by which every image a local encoder sees takes ten milliseconds, and all else none.
    looks, thresholds = [], set()

    def count(module, inputs, output):
        looks.append(len(inputs[0]))
        # Those of calls beside the measurement.
        thresholds.add(gfnet.thresholds)

    gfnet.model.local_encoder.register_forward_hook(count)
    monkeypatch.setattr("time.perf_counter", lambda: 0.01 * (len(digits) + sum(looks)))
    gfnet.set_thresholds([0.1, 0.2, 0.3, 0])
    for images in (digits, digits[:]):
        table = measure_latency(gfnet, images, repeats=2)
        assert table.milliseconds == pytest.approx((0, 10, 20, 30))
        assert gfnet.latency == table
    assert thresholds == {gfnet.thresholds} == {(0.1, 0.2, 0.3, 0)}
    point = gfnet.set_budget(milliseconds=15)
    assert np.dot(point.exit_share, (0, 10, 20, 30)) == pytest.approx(15)
    with pytest.raises(ValueError, match="the glance alone costs 0.000 milliseconds"):
        gfnet.set_budget(milliseconds=-1)
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        measure_latency(gfnet, digits[:1], repeats=0)
    with pytest.raises(ValueError, match="nothing to time"):
        measure_latency(gfnet, digits[[]])


def test_the_chosen_point_is_the_cheapest_that_is_nearly_best(record):
    table = solve_budgets(record, COSTS)
    chosen = table.cheapest(tolerance=0.01)
    best = max(point.accuracy for point in table.points)
    assert chosen.accuracy >= best - 0.01
    cheaper = [point for point in table.points if point.multiply_adds < chosen.multiply_adds]
    assert all(point.accuracy < best - 0.01 for point in cheaper)


@pytest.mark.parametrize("kind", ["gfnet", "stopping"])
def test_anytime_ends_where_all_steps_end(kind, digits, request):
    gfnet = request.getfixturevalue(kind)
    gfnet.set_thresholds([NEVER] * 4)
    expected = gfnet(digits[:])
    gfnet.set_thresholds([0] * 4)
    steps = list(gfnet.anytime(digits[:]))
    for number, step in enumerate(steps):
        assert step.exit_step.tolist() == expected.exit_step.clamp(max=number).tolist()
        looked = ~step.locations.isnan().any(dim=2)
        assert looked.sum(dim=1).tolist() == step.exit_step.tolist()
        assert torch.equal(step.locations[looked], expected.locations[looked])
    last = steps[-1]
    assert torch.equal(last.logits, expected.logits)
    assert torch.equal(last.multiply_adds, expected.multiply_adds)


@pytest.mark.parametrize("taken", range(4))
def test_anytime_does_no_more_than_was_asked_for(gfnet, digits, taken):
    looks = []
    gfnet.model.local_encoder.register_forward_hook(lambda *_: looks.append(1))
    everything = [step.classes for step in gfnet.anytime(digits[:8])]
    looks.clear()
    steps = gfnet.anytime(digits, range(8))
    seen = [next(steps) for _ in range(taken + 1)]
    assert torch.is_grad_enabled()
    steps.close()
    assert len(looks) == taken
    assert torch.equal(seen[-1].classes, everything[taken])


@pytest.mark.parametrize(("deadline", "steps"), [(0, 1), (1.9, 1), (2, 2), (3.5, 3), (99, 4)])
def test_anytime_stops_before_its_deadline(gfnet, digits, monkeypatch, deadline, steps):
    # A clock by which every step takes a second.
    seconds = []
    for encoder in (gfnet.model.global_encoder, gfnet.model.local_encoder):
        encoder.register_forward_hook(lambda *_: seconds.append(1))
    monkeypatch.setattr(early_exit.time, "perf_counter", lambda: float(sum(seconds)))
    assert len(list(gfnet.anytime(digits[:4], deadline=deadline))) == steps


@pytest.mark.parametrize("deadline", [-1, float("nan")])
def test_a_deadline_that_is_none_is_refused_at_once(gfnet, digits, deadline):
    with pytest.raises(ValueError, match="deadline must be at least 0 seconds"):
        gfnet.anytime(digits[:4], deadline=deadline)


def test_points_survive_json(record):
    point = solve_budgets(record, COSTS).points[3]
    assert OperatingPoint.from_json(json.loads(json.dumps(point.to_json()))) == point


def test_a_table_has_points_and_a_tolerance_is_no_less_than_nothing():
    point = OperatingPoint((0.0, 0.0), 0.5, 10.0, (1.0, 0.0))
    with pytest.raises(ValueError, match="needs at least one point"):
        BudgetTable(())
    for tolerance in (np.nan, -0.1, "x"):
        with pytest.raises(ValueError, match="tolerance must be"):
            BudgetTable((point,)).cheapest(tolerance)
