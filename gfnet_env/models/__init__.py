"""Models, which turn views into a state with logits, one look after the other."""

from gfnet_env.models.base import Model, State, blank_state, blank_views, glance_view
from gfnet_env.models.cost import (
    PartCost,
    count_multiply_adds,
    count_parameters,
    part_costs,
    peak_activation_bytes,
    policy_multiply_adds,
    start_multiply_adds,
    static_multiply_adds,
    step_multiply_adds,
)
from gfnet_env.models.gfnet import GFNetState, GlanceFocusNetwork, NetworkConfig
from gfnet_env.models.static import StaticConfig, StaticNetwork, load_static_networks
from gfnet_env.models.trained_on import TrainingData
from gfnet_env.models.where import WhereMap

__all__ = [
    "GFNetState",
    "GlanceFocusNetwork",
    "Model",
    "NetworkConfig",
    "PartCost",
    "State",
    "StaticConfig",
    "StaticNetwork",
    "TrainingData",
    "WhereMap",
    "blank_state",
    "blank_views",
    "count_multiply_adds",
    "count_parameters",
    "glance_view",
    "load_static_networks",
    "part_costs",
    "peak_activation_bytes",
    "policy_multiply_adds",
    "start_multiply_adds",
    "static_multiply_adds",
    "step_multiply_adds",
]
