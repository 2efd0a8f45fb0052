"""Multiply-adds, parameters and activation memory of every part, and multiply-adds of every exit.

python experiments/count_cost.py --run runs/policy
"""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import tyro
from rich.console import Console

from gfnet_env.benchmarks.report import print_costs
from gfnet_env.inference import EarlyExitGFNet, part_costs
from gfnet_env.inference.cost import step_multiply_adds
from gfnet_env.perception import GlanceFocusNetwork


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """What to count."""

    run: Path
    """Folder of a network, with a policy or without."""


def count_cost(config: CostConfig) -> None:
    """Print the table."""
    if (config.run / "gfnet.json").is_file():
        gfnet = EarlyExitGFNet.load(config.run)
        parts, exits = part_costs(gfnet.network, gfnet.policy), gfnet.multiply_adds
    else:
        network = GlanceFocusNetwork.load(config.run)
        parts, exits = part_costs(network), list(accumulate(step_multiply_adds(network)))
    print_costs(parts, exits, Console())


if __name__ == "__main__":
    count_cost(tyro.cli(CostConfig, description=__doc__))
