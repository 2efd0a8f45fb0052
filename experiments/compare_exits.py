"""Compare ways to stop looking at equal cost: confidence, expected gain, the policy's own stop.

python experiments/compare_exits.py --run runs/policy
"""

from gfnet_env.benchmarks import ExitComparisonConfig, compare_exits
from gfnet_env.command_line import parse

if __name__ == "__main__":
    compare_exits(parse(ExitComparisonConfig, __doc__))
