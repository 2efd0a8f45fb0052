"""Wall time per image at several budgets, in torch and in ONNX Runtime, against a static network.

python experiments/evaluate.py --run runs/policy --baseline runs/digits-static
python experiments/measure_latency.py --run runs/policy --baseline runs/digits-static
"""

import tyro

from gfnet_env.benchmarks.latency import LatencyConfig, measure_latency

if __name__ == "__main__":
    measure_latency(tyro.cli(LatencyConfig, description=__doc__))
