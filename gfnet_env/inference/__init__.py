"""The assembled early-exit network: exits, thresholds, budgets, cost, evaluation."""

from gfnet_env.inference.budgets import (
    OperatingPoint,
    choose_operating_point,
    operating_point,
    solve_budgets,
)
from gfnet_env.inference.cost import PartCost, count_multiply_adds, part_costs
from gfnet_env.inference.early_exit import (
    AnytimePrediction,
    EarlyExitGFNet,
    Prediction,
    assemble,
    classify,
)
from gfnet_env.inference.evaluation import Record, evaluate_policy, evaluate_static
from gfnet_env.inference.official import load_official
from gfnet_env.inference.thresholds import (
    NEVER,
    exit_steps,
    geometric_shares,
    shares_for_cost,
    thresholds_for_price,
    thresholds_for_shares,
)

__all__ = [
    "NEVER",
    "AnytimePrediction",
    "EarlyExitGFNet",
    "OperatingPoint",
    "PartCost",
    "Prediction",
    "Record",
    "assemble",
    "choose_operating_point",
    "classify",
    "count_multiply_adds",
    "evaluate_policy",
    "evaluate_static",
    "exit_steps",
    "geometric_shares",
    "load_official",
    "operating_point",
    "part_costs",
    "shares_for_cost",
    "solve_budgets",
    "thresholds_for_price",
    "thresholds_for_shares",
]
