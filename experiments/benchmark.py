"""Environment steps per second with live and cached features, and in policy training by PPO.

python experiments/benchmark.py
python experiments/benchmark.py --encoder tf_efficientnet_lite0 --patch-size 96 --image-size 224
"""

from gfnet_agents.throughput import ThroughputConfig, benchmark
from gfnet_env.command_line import parse

if __name__ == "__main__":
    benchmark(parse(ThroughputConfig, __doc__))
