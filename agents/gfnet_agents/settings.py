"""From what a schedule says to the arguments of an algorithm's constructor."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from gfnet_agents.algorithms import Algorithm

# Fields of a schedule, and the arguments that they become.
_ARGUMENTS = {
    "policy_rate": "learning_rate",
    "discount": "gamma",
    "clip_range": "clip_range",
    "entropy_weight": "ent_coef",
    "passes": "n_epochs",
    "minibatches": "batch_size",
    "episodes_per_update": "n_steps",
    "deviation": "policy_kwargs",
}
# Arguments that mean something else where an algorithm learns from a replay memory.
_OF_ROLLOUTS = {"passes", "minibatches", "episodes_per_update"}


def schedule_arguments(
    given: Mapping[str, Any], algorithm: Algorithm, name: str, num_envs: int, focus_steps: int
) -> dict[str, Any]:
    """Arguments of an algorithm's constructor.

    Args:
        given: Fields of a ``PolicySchedule``; those that are None are not. Its ``settings`` win.
        algorithm: The algorithm.
        name: Its name, for messages.
        num_envs: Sub-environments.
        focus_steps: Of an episode.

    Raises:
        ValueError: The algorithm has no such field, a setting is no ``key=value``, or steps cannot
            be divided into minibatches.
    """
    settings = parse_settings(given["settings"])
    values = {field: given[field] for field in _ARGUMENTS if given[field] is not None}
    refused = [field for field in values if not _has(algorithm, field)]
    if refused:
        has = [field for field in _ARGUMENTS if _has(algorithm, field)]
        raise ValueError(
            f"{name} has no {', '.join(refused)}: leave that out; it has {', '.join(has)}"
        )
    arguments = {_ARGUMENTS[field]: value for field, value in values.items()}
    if "episodes_per_update" in values:
        arguments["n_steps"] = values["episodes_per_update"] * focus_steps
    if "deviation" in values:
        arguments["policy_kwargs"] = {"log_std_init": math.log(values["deviation"])}
    if "minibatches" in values:
        parts = values["minibatches"]
        new = num_envs * (algorithm.defaults(num_envs) | arguments | settings)["n_steps"]
        if new % parts:
            raise ValueError(
                f"{new} steps between updates cannot be gone over in {parts} equal parts; "
                "choose other minibatches"
            )
        arguments["batch_size"] = new // parts
    if isinstance(settings.get("policy_kwargs"), dict):
        settings["policy_kwargs"] = arguments.get("policy_kwargs", {}) | settings["policy_kwargs"]
    return arguments | settings


def _has(algorithm: Algorithm, field: str) -> bool:
    """Whether a field of a schedule means something to an algorithm."""
    learns_from_rollouts = issubclass(algorithm.algorithm_class, OnPolicyAlgorithm)
    if field == "deviation":
        networks = algorithm.defaults(1).get("policy_kwargs", {})
        return "log_std_init" in networks
    if field in _OF_ROLLOUTS and not learns_from_rollouts:
        return False
    if field == "minibatches" and "n_epochs" not in algorithm.settings:
        return False
    return _ARGUMENTS[field] in algorithm.settings


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Arguments as a command line has them: ``key=value``, the value JSON or else a string.

    Raises:
        ValueError: One is no such pair, or a key is there twice.
    """
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise ValueError(f"settings must be key=value, not {pair!r}")
        if key in parsed:
            raise ValueError(f"the setting {key} is given twice")
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed
