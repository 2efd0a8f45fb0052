"""Stage 2, all stages in sequence, comparisons of learners and schedules, and recipes."""

from gfnet_agents.comparison import (
    AlgorithmComparisonConfig,
    ScheduleComparisonConfig,
    compare_algorithms,
    compare_schedules,
)
from gfnet_agents.config import PolicyConfig, PolicySchedule
from gfnet_agents.pipeline import PipelineConfig, fit, train_gfnet
from gfnet_agents.recipes import RECIPES, find_recipe, parse_config
from gfnet_agents.training import train_policy
from gfnet_agents.tuning import TuningConfig, tune

__all__ = [
    "RECIPES",
    "AlgorithmComparisonConfig",
    "PipelineConfig",
    "PolicyConfig",
    "PolicySchedule",
    "ScheduleComparisonConfig",
    "TuningConfig",
    "compare_algorithms",
    "compare_schedules",
    "find_recipe",
    "fit",
    "parse_config",
    "train_gfnet",
    "train_policy",
    "tune",
]
