"""Accuracy against cost on the test split: anytime, budgeted, and static networks beside them.

python experiments/evaluate.py --run runs/policy --baseline runs/digits-static
python experiments/evaluate.py --official CHECKPOINT.pth.tar --images folder:IMAGENET
"""

import tyro

from gfnet_env.benchmarks import EvaluationConfig, evaluate

if __name__ == "__main__":
    evaluate(tyro.cli(EvaluationConfig, description=__doc__))
