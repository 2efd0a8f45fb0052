"""What a network is worth: accuracy against cost with intervals, latency, memory."""

from gfnet_env.benchmarks.curves import EvaluationConfig, evaluate
from gfnet_env.benchmarks.statistics import expected_calibration_error, mean_interval

__all__ = ["EvaluationConfig", "evaluate", "expected_calibration_error", "mean_interval"]
