"""What learns a policy, stage 2 itself, and all stages one after the other with their recipes."""

from gfnet_agents.comparison import (
    AlgorithmComparisonConfig,
    ScheduleComparisonConfig,
    compare_algorithms,
    compare_schedules,
)
from gfnet_agents.learners import LEARNERS, Learner, StableBaselinesLearner, build_learner
from gfnet_agents.pipeline import PipelineConfig, train_gfnet
from gfnet_agents.recipes import RECIPES, Recipe, find_recipe, parse_config
from gfnet_agents.training import PolicyConfig, PolicySchedule, train_policy

__all__ = [
    "LEARNERS",
    "RECIPES",
    "AlgorithmComparisonConfig",
    "Learner",
    "PipelineConfig",
    "PolicyConfig",
    "PolicySchedule",
    "Recipe",
    "ScheduleComparisonConfig",
    "StableBaselinesLearner",
    "build_learner",
    "compare_algorithms",
    "compare_schedules",
    "find_recipe",
    "parse_config",
    "train_gfnet",
    "train_policy",
]
