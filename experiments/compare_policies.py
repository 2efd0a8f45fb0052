"""Compare policies on the test split: accuracy, confidence, gains, windows on the object.

python experiments/compare_policies.py --run runs/policy
python experiments/compare_policies.py --run runs/policy --policies random learned saliency
"""

from gfnet_env.benchmarks import ComparisonConfig, compare_policies
from gfnet_env.command_line import parse

if __name__ == "__main__":
    compare_policies(parse(ComparisonConfig, __doc__))
