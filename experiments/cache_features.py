"""Compute the features that ``--features cached`` would compute on first use.

python experiments/cache_features.py
python experiments/cache_features.py --network runs/photos --split train --precision bfloat16
python experiments/cache_features.py --cells 7 --scales 1 2 4
"""

from gfnet_env.command_line import parse
from gfnet_env.features.filling import CacheConfig, cache_features

if __name__ == "__main__":
    cache_features(parse(CacheConfig, __doc__))
