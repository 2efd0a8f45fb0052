"""Ten million environment steps and 100,000 predictions: memory, open files and threads stay flat.

python experiments/soak.py --out experiments/results/soak
"""

from gfnet_env.benchmarks import SoakConfig, soak
from gfnet_env.command_line import parse

if __name__ == "__main__":
    soak(parse(SoakConfig, __doc__))
