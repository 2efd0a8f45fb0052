"""What the learned policy owes to each choice in the way it learns: one changed at a time.

python experiments/recipes/policy.py --features cached --cells 7 --precision bfloat16 \
    --run runs/policy-choices --out experiments/results/policy-choices
"""

import json
from typing import Any

import tyro

from gfnet_agents import PolicySchedule, ScheduleComparisonConfig, compare_schedules


def _schedule(encoder: dict[str, Any] | None = None, **changes: Any) -> PolicySchedule:
    """The default one but for what is changed, with these arguments of ``ObservationEncoder``."""
    networks = {"features_extractor_kwargs": encoder}
    settings = (f"policy_kwargs={json.dumps(networks)}",) if encoder else ()
    return PolicySchedule(**{"timesteps": 40_000, "settings": settings} | changes)


SCHEDULES = {
    "default": _schedule(),
    # Where things are in a map has to be learned cell by cell, as in the authors' release.
    "flattened-maps": _schedule({"attention": False}),
    "latest-map-only": _schedule({"keep_glance": False}),
    "no-inhibition": _schedule({"inhibition": False}),
    "half-the-maps": _schedule({"channels": 32, "points": 16}),
    "all-alike": _schedule(sampling="all"),
    "no-exits": _schedule(exit_confidence=None),
    "all-alike-no-exits": _schedule(sampling="all", exit_confidence=None),
    "learns-from-val": _schedule(learn_from="val"),
    "log-probability": _schedule(reward="cross-entropy-gain"),
    "random-contrast": _schedule(reward="random-contrast"),
    "discount-0.7": _schedule(discount=0.7),
}


if __name__ == "__main__":
    compare_schedules(SCHEDULES, tyro.cli(ScheduleComparisonConfig, description=__doc__))
