"""Count what every part of a saved network costs."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from gfnet_env.console import PlainConsole, PlainTable
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.inference.storage import load_model
from gfnet_env.models import part_costs
from gfnet_env.settings import Settings


@dataclass(frozen=True, kw_only=True)
class CostConfig(Settings):
    """What to count."""

    run: Path
    """Folder of a network, with or without a policy."""


def count_cost(config: CostConfig) -> None:
    """Count and print."""
    model, policy = load_model(assembled_in(config.run))
    exits = list(accumulate(model.multiply_adds()))
    if policy is not None:
        exits = EarlyExitGFNet(model, policy).multiply_adds
    table = PlainTable("part", "input", "multiply-adds", "parameters", "activations")
    for part in part_costs(model, policy):
        table.add_row(
            part.name,
            "×".join(map(str, part.input_shape)),
            f"{part.multiply_adds / 1e6:.3f} M",
            f"{part.parameters:,}",
            f"{part.activation_bytes / 2**20:.2f} MiB",
        )
    console = PlainConsole()
    console.print(table)
    for number, cost in enumerate(exits):
        name = f"exit after look {number}" if number else "exit at the glance"
        console.print(f"{name}: {cost / 1e6:.3f} M multiply-adds")
