"""The assembled early-exit network: inference, calibration, budgets."""

from gfnet_env.inference.budgets import (
    BudgetTable,
    LatencyTable,
    Method,
    OperatingPoint,
    exit_costs,
    exits_of,
    operating_point,
    solve_budgets,
)
from gfnet_env.inference.calibration import (
    assemble,
    calibrate,
    fit_temperatures,
    learn_certainty,
    measure_latency,
)
from gfnet_env.inference.early_exit import Answers, EarlyExitGFNet, Pixels, Prediction
from gfnet_env.inference.official import load_official
from gfnet_env.inference.storage import assembled_in, check_saveable_model, is_assembled

__all__ = [
    "Answers",
    "BudgetTable",
    "EarlyExitGFNet",
    "LatencyTable",
    "Method",
    "OperatingPoint",
    "Pixels",
    "Prediction",
    "assemble",
    "assembled_in",
    "calibrate",
    "check_saveable_model",
    "exit_costs",
    "exits_of",
    "fit_temperatures",
    "is_assembled",
    "learn_certainty",
    "load_official",
    "measure_latency",
    "operating_point",
    "solve_budgets",
]
