import pytest
import torch

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks import ExitComparisonConfig, compare_exits
from gfnet_env.benchmarks.exits import ExitComparison
from gfnet_env.files import read_json
from gfnet_env.images import load_images
from gfnet_env.policies import CenterPolicy, LearnedPolicy


@pytest.fixture
def splits():
    return {name: load_images("cluttered-digits:scenes=60", name) for name in ("val", "test")}


def test_exits_are_compared_at_equal_cost(network, splits, tmp_path):
    EarlyExitGFNet(network, CenterPolicy()).save(tmp_path)
    found = compare_exits(ExitComparisonConfig(run=tmp_path, budgets=2), splits)
    assert ExitComparison.from_json(read_json(tmp_path / "exits" / "results.json")) == found
    names = [point.exits for point in found.points]
    assert names == [*dict.fromkeys(names)] * 2
    assert names[0] == "confidence, geometric"
    for point in found.points:
        assert (point.over_confidence is None) == (point.exits == names[0])
        # Searched thresholds may spend less.
        assert point.multiply_adds < 1.3 * point.budget
    costs = EarlyExitGFNet.load(tmp_path).multiply_adds
    shares = [(point.budget - costs[0]) / (costs[-1] - costs[0]) for point in found.points]
    assert shares[0] == pytest.approx(1 / 3, rel=1e-3)
    assert shares[-1] == pytest.approx(2 / 3, rel=1e-3)


def test_a_policy_that_stops_is_compared_with_itself_kept_from_stopping(network, splits, tmp_path):
    torch.manual_seed(1)
    policy = LearnedPolicy.for_model(network, (16,), actions="continuous+stop")
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5)
    policy.actor[-1].bias.data[-1] = 0.4
    EarlyExitGFNet(network, policy).save(tmp_path)
    found = compare_exits(ExitComparisonConfig(run=tmp_path, budgets=1), splits)
    own = found.points[-1]
    assert own.exits == "own stop"
    assert own.multiply_adds == pytest.approx(own.budget, rel=0.2)
    assert {point.budget for point in found.points[-6:]} == {own.budget}
    # A budget in the middle is met by looks that the policy alone would not have taken.
    middle = found.points[0]
    assert middle.multiply_adds == pytest.approx(middle.budget, rel=0.25)


@pytest.mark.parametrize("budgets", [0, 1001])
def test_budgets_are_as_many_as_a_table_shows(tmp_path, budgets):
    with pytest.raises(ValueError, match="budgets must be at"):
        ExitComparisonConfig(run=tmp_path, budgets=budgets)
