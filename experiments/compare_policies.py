"""Policies on the test split: accuracy and confidence per step, gains, patches on the object.

python experiments/compare_policies.py --run runs/policy
python experiments/compare_policies.py --run runs/policy --policies random learned saliency
"""

import tyro

from gfnet_env.benchmarks import ComparisonConfig, compare_policies

if __name__ == "__main__":
    compare_policies(tyro.cli(ComparisonConfig, description=__doc__))
