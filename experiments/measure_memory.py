"""Peak memory at several image resolutions, each in a process of its own.

python experiments/measure_memory.py --run runs/photos-policy
"""

import tyro

from gfnet_env.benchmarks.memory import MemoryConfig, measure_memory

if __name__ == "__main__":
    measure_memory(tyro.cli(MemoryConfig, description=__doc__))
