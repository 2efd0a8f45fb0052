"""Peak memory at several image resolutions, each in a process of its own.

python experiments/measure_memory.py --run runs/photos-policy
"""

from gfnet_env.benchmarks import MemoryConfig, measure_memory
from gfnet_env.command_line import parse

if __name__ == "__main__":
    measure_memory(parse(MemoryConfig, __doc__))
