"""Weights of an agent, whatever its algorithm: of its networks, its optimisers, and what else."""

from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import Tensor

from gfnet_agents.learners.sb3.random_search import RandomSearch


def get_variables(agent: BaseAlgorithm) -> dict[str, Tensor]:
    """Tensors that an agent learns outside its networks, by name, such as its temperature."""
    _, names = agent._get_torch_save_params()
    return {name: recursive_getattr(agent, name).detach() for name in names}


@torch.no_grad()
def set_weights(
    agent: BaseAlgorithm, parameters: dict[str, Any], variables: Mapping[str, Tensor]
) -> None:
    """Give an agent weights.

    Args:
        agent: The agent.
        parameters: What ``agent.get_parameters`` gave.
        variables: What ``get_variables`` gave.

    Raises:
        RuntimeError: A weight is missing or has another shape.
        ValueError: They are of another algorithm.
    """
    agent.set_parameters(parameters, device=agent.device)
    own = get_variables(agent)
    if set(own) != set(variables):
        raise ValueError(f"it has {sorted(variables)} beside its networks, not {sorted(own)}")
    for name, value in own.items():
        # In place, since an optimiser holds it.
        value.copy_(variables[name])
    if isinstance(agent, RandomSearch):
        vector = torch.nn.utils.parameters_to_vector(agent.policy.parameters())
        agent.weights = vector  # type: ignore[assignment]
