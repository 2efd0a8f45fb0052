"""Learn the policy with several learners and seeds, and compare the results.

python experiments/compare_algorithms.py --algorithms ppo a2c sac:ent_coef=0.1 --seeds 3 \
    --run runs/algorithms
"""

from gfnet_agents import AlgorithmComparisonConfig, compare_algorithms, parse_config

if __name__ == "__main__":
    compare_algorithms(parse_config(AlgorithmComparisonConfig, __doc__))
