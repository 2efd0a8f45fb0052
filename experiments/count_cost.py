"""Multiply-adds, parameters and activation memory of every part, and multiply-adds of every exit.

python experiments/count_cost.py --run runs/policy
"""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from rich.console import Console

from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks.report import print_costs
from gfnet_env.command_line import parse
from gfnet_env.inference.storage import load_model
from gfnet_env.models import part_costs
from gfnet_env.settings import Settings


@dataclass(frozen=True, kw_only=True)
class CostConfig(Settings):
    """What to count."""

    run: Path
    """Folder of a network, with a policy or without."""


def main(config: CostConfig) -> None:
    """Print the table."""
    model, policy = load_model(config.run)
    exits = list(accumulate(model.multiply_adds()))
    if policy is not None:
        exits = EarlyExitGFNet(model, policy).multiply_adds
    print_costs(part_costs(model, policy), exits, Console())


if __name__ == "__main__":
    main(parse(CostConfig, __doc__))
