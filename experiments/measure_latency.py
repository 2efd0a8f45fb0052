"""Wall time per image at several budgets, in torch and in ONNX Runtime, against a static network.

python experiments/evaluate.py --run runs/policy --baseline runs/digits-static
python experiments/measure_latency.py --run runs/policy --baseline runs/digits-static
"""

from gfnet_env.benchmarks import LatencyConfig, measure_latency
from gfnet_env.command_line import parse

if __name__ == "__main__":
    measure_latency(parse(LatencyConfig, __doc__))
