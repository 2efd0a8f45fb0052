"""The assembled early-exit network: exits, thresholds, cost, evaluation."""

from gfnet_env.inference.cost import count_multiply_adds
from gfnet_env.inference.early_exit import EarlyExitGFNet, Prediction
from gfnet_env.inference.evaluation import Record, evaluate_policy, evaluate_static
from gfnet_env.inference.operating_points import (
    OperatingPoint,
    choose_operating_point,
    classify,
    measure_operating_point,
    solve_operating_points,
)
from gfnet_env.inference.thresholds import (
    NEVER,
    exit_steps,
    geometric_shares,
    thresholds_for_shares,
)

__all__ = [
    "NEVER",
    "EarlyExitGFNet",
    "OperatingPoint",
    "Prediction",
    "Record",
    "choose_operating_point",
    "classify",
    "count_multiply_adds",
    "evaluate_policy",
    "evaluate_static",
    "exit_steps",
    "geometric_shares",
    "measure_operating_point",
    "solve_operating_points",
    "thresholds_for_shares",
]
