"""Benchmarks of a network and its policy: accuracy, cost, latency and memory, with intervals."""

from gfnet_env.benchmarks.curves import EvaluationConfig, evaluate
from gfnet_env.benchmarks.exits import ExitComparisonConfig, compare_exits
from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency
from gfnet_env.benchmarks.memory import MemoryConfig, measure_memory
from gfnet_env.benchmarks.policies import ComparisonConfig, compare_policies
from gfnet_env.benchmarks.scale import ScaleConfig, measure_scale
from gfnet_env.benchmarks.soak import SoakConfig, soak

__all__ = [
    "ComparisonConfig",
    "EvaluationConfig",
    "ExitComparisonConfig",
    "LatencyConfig",
    "MemoryConfig",
    "ScaleConfig",
    "SoakConfig",
    "compare_exits",
    "compare_policies",
    "evaluate",
    "measure_latency",
    "measure_memory",
    "measure_scale",
    "soak",
]
