"""Accuracy against cost on the test split: anytime, budgeted, and of static networks.

python experiments/evaluate.py --run runs/policy --baseline runs/digits-static
python experiments/evaluate.py --official CHECKPOINT.pth.tar --images folder:IMAGENET
"""

from gfnet_env.benchmarks import EvaluationConfig, evaluate
from gfnet_env.command_line import parse

if __name__ == "__main__":
    evaluate(parse(EvaluationConfig, __doc__))
