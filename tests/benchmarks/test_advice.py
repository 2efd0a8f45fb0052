import dataclasses

import pytest

from gfnet_env.benchmarks.advice import (
    budget_advice,
    exit_advice,
    policy_advice,
    static_advice,
)
from gfnet_env.benchmarks.results import (
    Comparison,
    CurvePoint,
    Difference,
    Evaluation,
    Margin,
    PolicyResult,
    StaticRow,
)
from gfnet_env.models import GlanceFocusNetwork


def result(over_glance, over_random, spread=0.01, images=1000):
    """A policy's result, from the middles of two intervals and half their width."""
    named = {"over_glance": over_glance, "over_random": over_random}
    differences = {
        name: Difference(middle, (middle - spread, middle + spread))
        for name, middle in named.items()
    }
    nothing = {"accuracy": (0.5, 0.6), "accuracy_interval": (), "label_confidence": ()}
    return PolicyResult(
        images=images, looks=1.0, label_confidence_interval=(), **nothing, **differences
    )


@pytest.mark.parametrize(
    ("over_glance", "over_random", "sentences"),
    [
        (0.05, 0.03, ["Looking pays: all looks together gain +5.0 points (95% interval +4.0 to"]),
        (0.05, 0.03, ["Looking pays", "It matters where: +3.0 points"]),
        (0.05, 0.0, ["Looking pays", "no better than random windows", "the policy for longer"]),
        (0.0, 0.0, ["gains nothing", "--windows mined", "no better than random windows"]),
        (-0.05, -0.05, ["Looking does harm: -5.0", "--windows mined", "worse than random windows"]),
    ],
)
def test_advice_says_what_figures_mean(over_glance, over_random, sentences, tiny_network):
    found = {"random": result(0, 0), "learned": result(over_glance, over_random)}
    advice = policy_advice(found, tiny_network)
    text = " ".join(advice)
    places = [text.index(part) for part in sentences]
    assert places == sorted(places)
    if over_glance > 0.01 and over_random > 0.01:
        assert "--" not in text, "nothing needs to change"


def test_advice_is_on_the_policy_that_was_learned_or_follows_the_map(tiny_network):
    both = {"heat": result(0.05, 0.05), "learned": result(-0.05, 0)}
    assert "harm" in policy_advice(both, tiny_network)[0]
    assert (
        "pays" in policy_advice({"random": result(0, 0), "heat": result(0.05, 0)}, tiny_network)[0]
    )
    assert policy_advice({"random": result(0.5, 0), "target": result(0.5, 0.5)}, tiny_network) == []


@pytest.mark.parametrize("over_glance", [0.0, 0.05])
def test_a_policy_is_to_blame_if_looks_at_the_object_gain_more(over_glance, tiny_network):
    found = {"learned": result(over_glance, 0.0), "target": result(0.1, 0.1)}
    text = " ".join(policy_advice(found, tiny_network))
    assert "has not learned where to look: looks at the object reach 60.0%. Train it" in text
    assert "windows mined" not in text
    found["target"] = result(0.1, 0.0)
    assert "windows mined" in " ".join(policy_advice(found, tiny_network))


@pytest.mark.parametrize(
    ("learned", "images"), [(result(0.03, 0.03, 0.1, 900), 900), (result(0, 0, 0, 50), 50)]
)
def test_few_images_are_no_ground_for_advice(learned, images, tiny_network):
    found = {"learned": learned, "target": result(0.3, 0.3)}
    text = " ".join(policy_advice(found, tiny_network))
    assert text.count(f"{images} images are too few to tell; test on more.") == 1
    assert "--" not in text


def test_harm_needs_no_more_images_and_heat_no_more_steps(tiny_network):
    harmed = {"learned": result(-0.2, -0.2, 0.1, 50)}
    assert "too few" not in " ".join(policy_advice(harmed, tiny_network))
    followed = {"heat": result(0.05, 0.0), "target": result(0.1, 0.1)}
    assert "has not learned" not in " ".join(policy_advice(followed, tiny_network))


@pytest.mark.parametrize("over_glance", [-0.05, 0.05])
def test_mining_is_not_advised_to_networks_that_have_mined(over_glance, tiny_network):
    found = {"random": result(0, 0), "learned": result(over_glance, -0.05)}
    assert "--windows mined, or t" in " ".join(policy_advice(found, tiny_network))
    config = dataclasses.replace(tiny_network.config, where_scales=(1.0,))
    text = " ".join(policy_advice(found, GlanceFocusNetwork(config)))
    assert "mined" not in text
    assert ": take" in text or ": train the policy" in text


def evaluation(margin, cost=5e6):
    rows = tuple(
        StaticRow(resolution=side, multiply_adds=cost, accuracy=accuracy, interval=(0, 1))
        for side, cost, accuracy in ((48, 1e6, 0.7), (96, 4e6, 0.8), (192, 16e6, 0.9))
    )
    compared = {
        "geometric": Comparison(least_margin=Margin(margin - 0.1, 9e6)),
        "searched": Comparison(least_margin=Margin(margin, cost)),
    }
    return Evaluation(
        split="test",
        images=9,
        calibration_split="val",
        calibration_images=9,
        anytime=(),
        budgeted={},
        static=rows,
        comparison=compared,
    )


def test_advice_names_the_static_network_to_take_instead():
    (sentence,) = static_advice(evaluation(-0.02))
    assert "At 5.0 M multiply-adds static networks are 2.0 points more accurate" in sentence
    assert "than searched exits" in sentence
    assert "take the static network of 96 pixels (80.0%)" in sentence
    (sentence,) = static_advice(evaluation(0.015))
    assert "at least 1.5 points more accurate than static networks of equal cost" in sentence
    assert "of 48 pixels" in static_advice(evaluation(-0.02, cost=0.5e6))[0]
    assert static_advice(dataclasses.replace(evaluation(0.0), comparison=None)) == []


def test_advice_says_where_nothing_is_looked_at():
    (sentence,) = exit_advice([0, 0, 0], [0.25, 2.0, 0.0])
    assert sentence.startswith("All pictures exit at the glance, at a certainty of 0.25 or more")
    assert exit_advice([0, 1, 0], [0.25, 2.0, 0.0]) == []


def test_advice_says_which_budgets_change_nothing():
    point = CurvePoint(multiply_adds=10.0, accuracy=0.5, interval=(0.4, 0.6))
    later = dataclasses.replace(point, multiply_adds=20.0)
    searched = [point, later, later, later]
    (sentence,) = budget_advice({"geometric": searched[:2], "searched": searched})
    assert sentence.startswith("With searched exits, 2 of 4 budgets change nothing: spending more")
