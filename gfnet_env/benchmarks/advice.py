"""What figures mean for a user, in sentences."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from gfnet_env.benchmarks.results import CurvePoint, Difference, Evaluation, PolicyResult

_WEAK_WINDOWS = (
    "Windows say too little here: {}take a larger --patch-size or a finer glance (--glance-size)."
)
_WEAK_POLICY = "Where it looks does not matter yet: {}train the policy for longer (--timesteps)."
_MINE = "train stage 1 with --windows mined, or "
_UNLEARNED = (
    "The policy has not learned where to look: looks at the object reach {:.1%}. Train it for "
    "longer (--timesteps)."
)
_TOO_FEW = "{} images are too few to tell; test on more."
# A gain that an interval must rule out before we say that there is none.
_WORTHWHILE = 0.05
# By the sign of the gain; 0 if its interval holds zero.
_GAIN_OVER_GLANCE = {
    1: "Looking pays: all looks together gain {} over the glance.",
    0: "Looking gains nothing that these images show: {} over the glance.",
    -1: "Looking does harm: {} over the glance.",
}
_GAIN_OVER_RANDOM = {
    1: "It matters where: {} over random windows.",
    0: "The policy is no better than random windows on these images: {}.",
    -1: "The policy is worse than random windows: {}.",
}


def policy_advice(policies: Mapping[str, PolicyResult], model: object) -> list[str]:
    """Whether looking pays, and whether it matters where.

    Args:
        policies: What came out under each; the policy that is advised on is the one that is no
            bound and is neither ``random`` nor fixed: ``learned``, or else ``heat``.
        model: The model that looked.
    """
    found = next((policies[each] for each in ("learned", "heat") if each in policies), None)
    if found is None:
        return []
    # Only networks that learned on mined windows have a where-map.
    first = _MINE if getattr(model, "where", None) is None else ""
    sentences, is_advised = list[str](), False
    for gain, says, advice in (
        (found.over_glance, _GAIN_OVER_GLANCE, _WEAK_WINDOWS),
        (found.over_random, _GAIN_OVER_RANDOM, _WEAK_POLICY),
    ):
        if gain is None:
            continue
        sentences.append(says[_sign(gain)].format(_points(gain)))
        if _sign(gain) == 1 or is_advised:
            continue
        is_advised, target = True, policies.get("target")
        # Where no image changes, the interval is a point; by the rule of three it ends at 3/n.
        reach = max(gain.interval[1], 3 / found.images)
        if _sign(gain) == 0 and reach > _WORTHWHILE:
            sentences.append(_TOO_FEW.format(found.images))
        elif "learned" in policies and target is not None and _pays(target):
            sentences.append(_UNLEARNED.format(target.accuracy[-1]))
        else:
            sentences.append(advice.format(first))
    return sentences


def exit_advice(exit_step: Sequence[int], thresholds: Sequence[float]) -> list[str]:
    """What it means if no picture is looked at.

    Args:
        exit_step: Looks taken at each picture.
        thresholds: The thresholds of the network.
    """
    if any(exit_step):
        return []
    return [
        f"All pictures exit at the glance, at a certainty of {thresholds[0]:.2f} or more, so none "
        "is drawn with a window: on the validation split no look raised the accuracy by half a "
        "point. set_budget makes the network look all the same."
    ]


def budget_advice(budgeted: Mapping[str, Sequence[CurvePoint]]) -> list[str]:
    """What it means if budgets, by the method of exits, are met by the same exits."""
    repeated = {
        method: sum(one.multiply_adds == other.multiply_adds for one, other in pairwise(points))
        for method, points in budgeted.items()
    }
    return [
        f"With {method} exits, {same} of {len(budgeted[method])} budgets change nothing: spending "
        "more gained nothing on the calibration split."
        for method, same in repeated.items()
        if same
    ]


def static_advice(results: Evaluation) -> list[str]:
    """Whether early exits beat static networks of equal cost, and which to take where they do not.

    It goes by the method of exits whose worst budget is best.
    """
    if not results.comparison or not results.static:
        return []
    margins = {
        method: found.least_margin
        for method, found in results.comparison.items()
        if found.least_margin is not None
    }
    if not margins:
        return []
    method, margin = max(margins.items(), key=lambda each: each[1].accuracy)
    if margin.accuracy >= 0:
        return [
            f"With {method} exits it is at every budget at least {100 * margin.accuracy:.1f} "
            "points more accurate than static networks of equal cost."
        ]
    cost = margin.multiply_adds
    affordable = [row for row in results.static if row.multiply_adds <= cost]
    static = max(affordable or results.static[:1], key=lambda row: row.accuracy)
    return [
        f"At {cost / 1e6:.1f} M multiply-adds static networks are {-100 * margin.accuracy:.1f} "
        f"points more accurate than {method} exits: at that budget, take the static network of "
        f"{static.resolution} pixels ({static.accuracy:.1%})."
    ]


def _pays(result: PolicyResult) -> bool:
    """Whether looking pays under a policy, and it matters where."""
    gains = (result.over_glance, result.over_random)
    return all(gain is not None and _sign(gain) == 1 for gain in gains)


def _sign(difference: Difference) -> int:
    """1 or -1 where the interval lies above or below zero, else 0."""
    low, high = difference.interval
    return int(low > 0) - int(high < 0)


def _points(difference: Difference) -> str:
    low, high = (100 * bound for bound in difference.interval)
    return f"{100 * difference.difference:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
