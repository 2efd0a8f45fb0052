"""Compute the frozen features that ``--features cached`` would compute on first use.

python experiments/cache_features.py
python experiments/cache_features.py --network runs/photos --split train --precision bfloat16
"""

import tyro

from gfnet_env.features.filling import CacheConfig, cache_features

if __name__ == "__main__":
    cache_features(tyro.cli(CacheConfig, description=__doc__))
