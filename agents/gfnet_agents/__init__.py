"""What learns a policy, stage 2 itself, and all stages one after the other with their recipes."""

from gfnet_agents.algorithms import ALGORITHMS, Algorithm, build_agent, find_algorithm
from gfnet_agents.comparison import (
    AlgorithmComparisonConfig,
    ScheduleComparisonConfig,
    compare_algorithms,
    compare_schedules,
)
from gfnet_agents.extractor import ObservationExtractor
from gfnet_agents.learned import learned_policy
from gfnet_agents.pipeline import PipelineConfig, train_gfnet
from gfnet_agents.recipes import RECIPES, Recipe, find_recipe, parse_config
from gfnet_agents.training import PolicyConfig, PolicySchedule, train_policy
from gfnet_agents.vec_env import FlatObservations, StableBaselinesVecEnv

__all__ = [
    "ALGORITHMS",
    "RECIPES",
    "Algorithm",
    "AlgorithmComparisonConfig",
    "FlatObservations",
    "ObservationExtractor",
    "PipelineConfig",
    "PolicyConfig",
    "PolicySchedule",
    "Recipe",
    "ScheduleComparisonConfig",
    "StableBaselinesVecEnv",
    "build_agent",
    "compare_algorithms",
    "compare_schedules",
    "find_algorithm",
    "find_recipe",
    "learned_policy",
    "parse_config",
    "train_gfnet",
    "train_policy",
]
