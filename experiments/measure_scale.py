"""What a set of pictures, sub-environments, pictures and classes take as their number grows.

python experiments/measure_scale.py --out experiments/results/scale.json
"""

from gfnet_env.benchmarks import ScaleConfig, measure_scale
from gfnet_env.command_line import parse

if __name__ == "__main__":
    measure_scale(parse(ScaleConfig, __doc__))
